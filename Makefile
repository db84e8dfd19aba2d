# Everything below works in a fresh clone: the environment is made when it is not there.
# make PYTHON=/path/to/python3.12 uses that interpreter; make VENV=folder another environment.

VENV ?= .venv
PYTHON ?=
BIN = $(VENV)/bin
SETUP = PYTHON="$(PYTHON)" sh scripts/setup.sh
DEV = dev,parquet
# Extra words for the tools: make test ARGS="tests/test_house.py -x"
ARGS ?=

.PHONY: help demo gui test lint format types contracts check bench clean
.DEFAULT_GOAL := help

help:
	@echo "make demo       charge and discharge simulated cells over real sockets, draw the result"
	@echo "make gui        open the window on a simulated lab"
	@echo "make test       run the tests"
	@echo "make lint       ruff: rules and format"
	@echo "make format     rewrite files as ruff formats them"
	@echo "make types      mypy --strict"
	@echo "make contracts  import-linter: which portion may import which"
	@echo "make check      lint, types, contracts and test"
	@echo "make bench      measure and print the benchmarks"
	@echo "make clean      remove the environment, caches and builds; records of runs stay"

demo:
	@$(SETUP) report,gui $(VENV)
	@$(BIN)/operando demo $(ARGS)

gui:
	@$(SETUP) report,gui $(VENV)
	@$(BIN)/operando gui --simulate $(ARGS)

test:
	@$(SETUP) $(DEV) $(VENV)
	@$(BIN)/python -m pytest -n auto -q $(ARGS)

lint:
	@$(SETUP) $(DEV) $(VENV)
	@$(BIN)/ruff check --quiet $(ARGS)
	@$(BIN)/ruff format --check --quiet $(ARGS)

format:
	@$(SETUP) $(DEV) $(VENV)
	@$(BIN)/ruff check --quiet --fix $(ARGS)
	@$(BIN)/ruff format --quiet $(ARGS)

types:
	@$(SETUP) $(DEV) $(VENV)
	@$(BIN)/mypy $(ARGS)

contracts:
	@$(SETUP) $(DEV) $(VENV)
	@$(BIN)/lint-imports --no-logo $(ARGS)

check: lint types contracts test

bench:
	@$(SETUP) $(DEV) $(VENV)
	@missed=; for file in benchmarks/*.py; do \
		echo "== $$file"; $(BIN)/python "$$file" $(ARGS) || missed="$$missed $$file"; \
	done; if [ -n "$$missed" ]; then echo "a target was missed in:$$missed" >&2; exit 1; fi

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

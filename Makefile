# Every verb sets up what it needs. `make help` prints the verbs.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
# The first Python 3.11 or later that can make a virtual environment.
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14; do \
	$$p -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
WORKERS ?= 2
export OMP_NUM_THREADS ?= 1

.PHONY: help setup demo check fix test slow docs bench lowest wheel coverage mutants clean

help:  ## print the verbs
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "deconrec needs Python 3.11 or later with venv; none was found on PATH." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	@touch $@

setup: $(VENV)/.installed  ## make .venv with everything pinned in constraints.txt

demo: setup  ## the main job on the built-in simulator: comparison, report, model, recommendations
	$(BIN)/deconrec demo --out demo --workers $(WORKERS)

check: setup  ## format, lint, types, architecture
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest tests/test_architecture.py

fix: setup  ## format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: setup  ## the fast tests (several minutes on one core)
	$(BIN)/pytest

slow: setup  ## the slow tests: statistics over many worlds
	$(BIN)/pytest -m slow

$(VENV)/.documented: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev,docs]'
	@touch $@

docs: $(VENV)/.documented  ## regenerate the derived pages and build the site in build/site; a warning is an error
	$(BIN)/python docs/generate.py
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --builder html -c docs . build/site
	@echo "build/site/index.html"

bench: setup  ## speed and memory, as ratios against named peers
	$(BIN)/python -m benchmarks

lowest:  ## test the lower bounds that pyproject.toml declares, in an environment of their own
	@test -x .venv-lowest/bin/python || $(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-lowest.txt -e '.[all,dev]'
	.venv-lowest/bin/pytest

wheel: setup  ## build a wheel, install it in a clean environment, and run quick tests against it
	$(BIN)/pytest -m slow tests/test_wheel.py

$(VENV)/.strong: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev,strength]'
	@touch $@

coverage: $(VENV)/.strong  ## what share of the lines the fast tests run
	$(BIN)/python -m coverage run -m pytest
	$(BIN)/python -m coverage report

mutants: $(VENV)/.strong  ## change lines of losses and evaluation, half an hour long: which changes does no test notice?
	-timeout 30m $(BIN)/mutmut run --max-children $(WORKERS)
	$(BIN)/mutmut results

clean:  ## remove what the verbs made
	rm -rf $(VENV) .venv-lowest build demo mutants .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis

# The two commands of the README: `make demo` and `make test`. Each makes .venv if need be.
# On a bare machine they need Python (3.11 or newer), make and a package index.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DOCS_INSTALLED := $(VENV)/.docs-installed
JOBS ?= auto

.PHONY: help demo test lint bench docs wheel clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

# torch first and on its own: a looser request would bring gigabytes of CUDA libraries
$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

$(DOCS_INSTALLED): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

demo: $(INSTALLED)  ## simulate two machines, learn, score, judge (OUT=folder, default: demo)
	$(BIN)/nearfar demo $(or $(OUT),demo)

test: lint  ## everything that must hold: lint, then all tests
	$(BIN)/python -m pytest --numprocesses $(JOBS)

lint: $(INSTALLED)  ## format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(INSTALLED)  ## measure what benchmarks/ measures, side by side with what it is measured against
	for file in benchmarks/bench_*.py; do $(BIN)/python $$file || exit 1; done

docs: $(DOCS_INSTALLED)  ## build docs/_build/html, warnings are errors
	$(BIN)/python -m sphinx --fail-on-warning --keep-going -b html docs docs/_build/html

wheel: $(INSTALLED)  ## build dist/*.whl
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean:  ## remove what was built
	rm -rf $(VENV) dist build docs/_build docs/api demo results .pytest_cache .mypy_cache .ruff_cache .hypothesis

# The two commands of the README: `make demo` and `make test`. Each makes .venv if need be.
# On a bare machine they need Python (3.11 or newer), make and a package index.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEMO_INSTALLED := $(VENV)/.demo-installed
DOCS_INSTALLED := $(VENV)/.docs-installed
LIGHT := .venv-light
JOBS ?= auto

.PHONY: help demo test lint light bench docs wheel clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

# $(call install,ENVIRONMENT,WHAT): pip compiles on one core, tests of libraries too; this takes all cores and no tests
define install
	test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
	$(1)/bin/python -m pip install --quiet --no-compile --constraint constraints.txt $(2)
	$(1)/bin/python -m compileall -qq -j 0 -x '/tests?/' $(1)/lib || true
endef

# What the demo needs: no torch, no test tools
$(DEMO_INSTALLED): pyproject.toml constraints.txt
	$(call install,$(VENV),--editable .)
	touch $@

$(INSTALLED): $(DEMO_INSTALLED)
	$(call install,$(VENV),--editable '.[test]')
	touch $@

$(DOCS_INSTALLED): $(INSTALLED)
	$(call install,$(VENV),--editable '.[docs]')
	touch $@

demo: $(DEMO_INSTALLED)  ## simulate two machines, learn, score, judge (OUT=folder, default: demo)
	$(BIN)/nearfar demo $(or $(OUT),demo)

test: lint  ## everything that must hold: lint, then all tests
	$(BIN)/python -m pytest --numprocesses $(JOBS)

lint: $(INSTALLED)  ## format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

light:  ## in a new environment without extras: the demo, fit, score, and what asks for torch
	rm -rf $(LIGHT)
	$(call install,$(LIGHT),.)
	$(LIGHT)/bin/python tests/without_torch.py

bench: $(INSTALLED)  ## measure what benchmarks/ measures, side by side with what it is measured against
	for file in benchmarks/bench_*.py; do $(BIN)/python $$file || exit 1; done

docs: $(DOCS_INSTALLED)  ## build docs/_build/html, warnings are errors
	$(BIN)/python -m sphinx --fail-on-warning --keep-going -b html docs docs/_build/html

wheel: $(INSTALLED)  ## build dist/*.whl
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean:  ## remove what was built
	rm -rf $(VENV) $(LIGHT) dist build docs/_build docs/api demo results .pytest_cache .mypy_cache .ruff_cache .hypothesis

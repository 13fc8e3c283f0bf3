# The two commands of the README: `make demo` and `make test`. Each makes .venv if need be.
# On a bare machine they need Python (3.11 or newer), make and a package index.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEMO_INSTALLED := $(VENV)/.demo-installed
DOCS_INSTALLED := $(VENV)/.docs-installed
LIGHT := .venv-light
NEW := .venv-newest
JOBS ?= auto
# A file of tests stays in one process, so that what its fixtures make is made once; conftest.py says which is first
TESTS := -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder
# Tests start hundreds of processes: none of them compiles again what another has compiled
export PYTHONDONTWRITEBYTECODE :=
# The newest Python that runs: a name on PATH may be a shim of pyenv, which has to be told the version
NEWEST ?= $(firstword $(foreach name,python3.14 python3.13 python3.12,$(shell \
  PYENV_VERSION=$$(pyenv whence $(name) 2>/dev/null | tail -n 1) $(name) -c 'import sys; print(sys.executable)' 2>/dev/null)))

.PHONY: help demo test test-all lint light newest fuzz bench docs wheel clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

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

test: lint  ## everything that must hold: lint, all tests, and each fast one once on the newest Python
	$(BIN)/python $(TESTS)
	@$(MAKE) --no-print-directory newest

test-all: lint  ## as test, and what takes longest: how hard the simulated machines are to hear
	$(BIN)/python $(TESTS) --exhaustive
	@$(MAKE) --no-print-directory newest

lint: $(INSTALLED)  ## format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

light:  ## in a new environment without extras: the demo, fit, score, and what asks for torch
	rm -rf $(LIGHT)
	$(call install,$(LIGHT),.)
	$(LIGHT)/bin/python tests/without_torch.py

newest: $(INSTALLED)  ## each fast test without torch once, on the newest Python at hand (or NEWEST=path)
	@newest="$(NEWEST)"; ours=$$($(BIN)/python -c 'import sys; print(sys.version_info[:2])'); \
	if test -z "$$newest"; then \
	  echo "newest Python: skipped, no python3.14, python3.13 or python3.12 runs here; NEWEST=path names one"; \
	elif ! "$$newest" -c "import sys; sys.exit(sys.version_info[:2] <= $$ours)"; then \
	  echo "newest Python: skipped, $$newest is not newer than the Python of $(VENV)"; \
	else \
	  version=$$("$$newest" -c 'import platform; print(platform.python_version())'); \
	  echo "newest Python: the fast tests without torch on $$version, $$newest"; \
	  $(MAKE) --no-print-directory PYTHON="$$newest" $(NEW)/.installed-$$version && \
	  $(NEW)/bin/python $(TESTS) -m "not slow" --first-of-each; \
	fi

# torch would be gigabytes here, where there is no CPU build of it
$(NEW)/.installed-%: pyproject.toml constraints.txt
	test -e $@ || rm -rf $(NEW)
	$(call install,$(NEW),--editable '.[test-light]')
	touch $@

fuzz: $(INSTALLED)  ## damage all that is read, an hour long (SECONDS=): a result, or an error that names the file
	cd tests && ../$(BIN)/python -m fuzz --seconds $(or $(SECONDS),3600)

bench: $(INSTALLED)  ## measure what benchmarks/ measures, side by side with what it is measured against
	for file in benchmarks/bench_*.py; do $(BIN)/python $$file || exit 1; done

docs: $(DOCS_INSTALLED)  ## build docs/_build/html, warnings are errors
	$(BIN)/python -m sphinx --fail-on-warning --keep-going -b html docs docs/_build/html

wheel: $(INSTALLED)  ## build dist/*.whl
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean:  ## remove what was built
	rm -rf $(VENV) $(LIGHT) $(NEW) dist build docs/_build docs/api demo results .pytest_cache .mypy_cache .ruff_cache .hypothesis

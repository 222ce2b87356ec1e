# Every target does its own set-up: it needs Python >= 3.11, make and a package index, nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SOURCES := core_encoder jclip_connectors tests examples benchmarks

.PHONY: demo test lint check fix docs clean

demo: $(VENV)/.installed  ## index a drawn gallery and search it in five languages
	$(BIN)/jclip demo

test: $(VENV)/.installed-dev  ## run the test suite, on up to four processors
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

lint: $(VENV)/.installed-dev  ## format, lint, import rules, types
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/lint-imports
	$(BIN)/mypy

check: lint test  ## what must pass before a commit

fix: $(VENV)/.installed-dev  ## format and mend what ruff can mend
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

docs: $(VENV)/.installed-dev  ## write the documentation to site/; a broken link or a public name without a page fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

clean:  ## forget the environment and every cache
	rm -rf $(VENV) .test-environments .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist site

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python >= 3.11 is needed: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[all]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

# Every target does its own set-up: it needs Python >= 3.11, make and a package index, nothing else.
# Where Python may not keep bytecode, each of the many processes of the tests compiles all that it imports.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
SOURCES := core_encoder jclip_connectors haystack_integrations tests examples benchmarks

.PHONY: demo test test-all lint check fix docs dist upgrade clean

demo: $(VENV)/.installed  ## index a drawn gallery and search it in five languages
	$(BIN)/jclip demo

test: $(VENV)/.installed-dev  ## what must pass before a commit, on up to four processors
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow" -p no:schemathesis

test-all: $(VENV)/.installed-dev  ## the rest: slow tests, and long searches for counter-examples
	$(BIN)/python -m pytest $(PARALLEL) -m "slow or hypothesis" --hypothesis-profile thorough

PARALLEL := --numprocesses auto --maxprocesses 4 --dist worksteal

lint: $(VENV)/.installed-dev  ## format, lint, import rules, types
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/mypy --explicit-package-bases haystack_integrations

check: lint test  ## what must pass before a commit

fix: $(VENV)/.installed-dev  ## format and mend what ruff can mend
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

docs: $(VENV)/.installed-dev  ## write the documentation to site/; a broken link or a public name without a page fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

dist: $(UV)  ## build wheel and sdist, and run the demo from the wheel in an empty environment
	rm -rf dist build
	$(UV) build --quiet --python $(BIN)/python
	$(UV) venv --quiet --python $(BIN)/python build/environment
	UV=$(UV) tools/install.sh build/environment/bin/python all "$$(echo dist/*.whl)[all]"
	build/environment/bin/jclip demo --folder build/demo

COMPILE = $(UV) pip compile --quiet --upgrade --universal --python-version 3.11 \
	--no-header --no-annotate --no-emit-index-url --no-emit-find-links
EXTRAS = $(shell $(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"])')

upgrade: $(UV)  ## write the newest versions that pyproject.toml allows into constraints/
	$(COMPILE) pyproject.toml --extra dev --output-file constraints/dev.txt
	for extra in $(filter-out dev, $(EXTRAS)); do \
		$(COMPILE) pyproject.toml --extra $$extra --constraints constraints/dev.txt \
			--output-file constraints/$$extra.txt || exit 1; \
	done
	$(COMPILE) tests/clients/requirements.in --output-file tests/clients/requirements.txt
	for engine in requirements daft; do \
		$(COMPILE) pyproject.toml --extra bulk tests/engines/$$engine.in \
			--output-file tests/engines/$$engine.txt || exit 1; \
	done

clean:  ## forget the environment and every cache
	rm -rf $(VENV) .test-environments .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist site

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python >= 3.11 is needed: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints/dev.txt uv

$(VENV)/.installed: $(UV) pyproject.toml constraints/all.txt tools/install.sh
	UV=$(UV) tools/install.sh $(BIN)/python all --editable '.[all]'
	@touch $@

$(VENV)/.installed-dev: $(UV) pyproject.toml constraints/dev.txt tools/install.sh
	UV=$(UV) tools/install.sh $(BIN)/python dev --editable '.[dev]'
	@touch $(VENV)/.installed $@

# Two commands do everything on a fresh machine: `make demo` and `make test`. Each target sets up what it needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A uv on the PATH is used; otherwise the project's own environment gets one.
UV = $(shell command -v uv 2>/dev/null || echo $(BIN)/uv)
INSTALLED := $(VENV)/.installed
# One worker per core; a file's tests stay together, so that its fixtures are made once.
PYTEST = $(BIN)/pytest --numprocesses auto --dist loadfile
COVERAGE = --cov --cov-report term:skip-covered --cov-fail-under 85
LOCK_ARGS := --all-extras --python-version 3.11 --universal --generate-hashes --no-header --no-emit-index-url --no-annotate

# The tests start hundreds of processes: without compiled modules each would compile them all again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): requirements.lock pyproject.toml | $(BIN)/python
	@command -v uv >/dev/null 2>&1 || test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(UV) pip sync --quiet --require-hashes requirements.lock
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: install
install: $(INSTALLED) ## Make the environment in .venv, exactly as locked

.PHONY: demo
demo: $(INSTALLED) ## Run the main job on generated samples: every layer, from file to prediction
	$(BIN)/lakehouse demo

.PHONY: dev
dev: $(INSTALLED) ## Start Dagster's web interface and daemon on this machine
	$(BIN)/lakehouse dev

.PHONY: test
test: $(INSTALLED) lint ## Lint, type-check and run the tests
	$(PYTEST) -m 'not slow and not servers'

.PHONY: test-all
test-all: $(INSTALLED) lint ## The same with the slow tests, those that need servers, and line coverage
	$(BIN)/python -m tests.servers
	LAKEHOUSE_TEST_MANY_EXAMPLES=1 $(PYTEST) $(COVERAGE) -m 'not slow and not servers'
	LAKEHOUSE_TEST_MANY_EXAMPLES=1 $(PYTEST) -m 'slow or servers'

.PHONY: test-servers
test-servers: $(INSTALLED) ## Run the tests that need real servers (S3, PostgreSQL, Redis, Kafka), which it installs where it may and starts
	$(BIN)/python -m tests.servers
	$(PYTEST) -m 'servers and not slow'

.PHONY: lint
lint: $(INSTALLED) ## Format check, lint, types and the import rule
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

.PHONY: format
format: $(INSTALLED) ## Format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: bench
bench: $(INSTALLED) ## Measure every figure beside its limit or a peer
	$(BIN)/python benchmarks/run.py

.PHONY: lock
lock: $(BIN)/python ## Resolve requirements.lock again
	@command -v uv >/dev/null 2>&1 || test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(UV) pip compile pyproject.toml $(LOCK_ARGS) --output-file requirements.lock --quiet

.PHONY: clean
clean: ## Remove the environment and caches; data stays
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage* htmlcov dist

.PHONY: help
help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-12s %s\n", $$1, $$2}'

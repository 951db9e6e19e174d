# Each command prepares what it needs; nothing has to be installed or activated first.

SHELL := /bin/sh
PYTHON := .venv/bin/python
.DEFAULT_GOAL := help
# A test in a group runs in the group's process; ARGS='-n0' runs all in one, as --pdb needs.
PYTEST := $(PYTHON) -m pytest -n logical --maxprocesses 4 --dist loadgroup
.PHONY: help demo assistant test check format lint types layers schema-docs bench clean dev

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

demo: ## Index real documents on an embedded server and search them
	@sh .ci/python demo
	@$(PYTHON) examples/quickstart.py

assistant: ## Ask documents in the browser (FOLDER=~/docs for yours, MODEL=provider:name)
	@sh .ci/python assistant
	@$(PYTHON) -m examples.assistant $(if $(FOLDER),--folder "$(FOLDER)") \
	    $(if $(MODEL),--model "$(MODEL)") $(ARGS)

test: dev ## Run the tests (ARGS='-k name' for some of them)
	$(PYTEST) $(ARGS)

check: lint types layers ## Everything CI could ask: lint, types, layers, tests with coverage
	$(PYTEST) --cov $(ARGS)

format: dev ## Format the code and mend what ruff can
	$(PYTHON) -m ruff check --fix-only .
	$(PYTHON) -m ruff format .

lint: dev ## Formatting and lint rules
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .

types: dev ## mypy --strict and pyright
	$(PYTHON) -m mypy
	$(PYTHON) -m pyright

layers: dev ## The import contracts in .importlinter
	$(PYTHON) -c 'from importlinter.cli import lint_imports_command; lint_imports_command()'

schema-docs: dev ## Write docs/schema.md from the comments in sql/
	$(PYTHON) -m docs.schema

bench: ## Against bare psycopg and other stores (FULL=1: 100,000 rows and more)
	@sh .ci/python demo
	@sh benchmarks/setup.sh
	.cache/bench-venv/bin/python benchmarks/floor.py $(if $(FULL),--rows 100000)
	.cache/bench-venv/bin/python benchmarks/peers.py $(if $(FULL),--full)

clean: ## Remove the environment, caches and build results
	rm -rf .venv .cache .coverage* .hypothesis .import_linter_cache .mypy_cache \
	    .pytest_cache .ruff_cache build dist

dev:
	@sh .ci/python dev

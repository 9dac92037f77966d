# The two commands: `make run` and `make test`. Each sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help run ui install test check format bench soak clean

help: ## Show what there is to make
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: $(VENV)/.installed ## Set up and run the main job: real text, real model, through Dagster
	@$(BIN)/embed-assets run

ui: $(VENV)/.installed ## Open the Dagster UI on 127.0.0.1:3000
	@$(BIN)/embed-assets ui

install: $(VENV)/.installed ## Make .venv and install the package into it

test: $(VENV)/.installed-dev ## Set up and pass the tests
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

check: $(VENV)/.installed-dev ## Lint, format, types, direction of imports, Dagster definitions
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/dg check yaml
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/dg check defs

format: $(VENV)/.installed-dev ## Format and fix what can be fixed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/.installed-dev ## Measure against peers in turn; CORPUS=folder of text
	$(BIN)/python -m benchmarks.speed $(if $(CORPUS),--corpus $(CORPUS))
	$(BIN)/python -m benchmarks.end_to_end --name end-to-end $(if $(CORPUS),--corpus $(CORPUS))

soak: $(VENV)/.installed-dev ## Kill runs at least 200 times, and all long fault injection; an hour
	$(BIN)/python -m embed_assets_tests.faults.soak --kills 200 --json benchmarks/results/soak.json
	$(BIN)/pytest -m soak

clean: ## Remove the environment, the tables and Dagster's state
	rm -rf $(VENV) .dagster tables .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .bench

$(VENV)/.installed: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "python3 is needed, 3.11 to 3.13"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "Python 3.11 to 3.13 is needed, $$($(PYTHON) -V) was found; set PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV); about a minute"
	@$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

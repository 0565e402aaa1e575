# Three commands set up all they need: `make demo`, `make serve` and `make test`. They need Python >= 3.11 and make, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# Compiled modules are kept: tests start some hundred processes.
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -n auto
SOURCES := src tests benchmarks docs tools examples

CLIENTS := .venv-clients
CLIENT_NAMES := openai openai_agents anthropic llm instructor dspy pydantic_ai smolagents aider lm_eval guidellm aiperf schemathesis gguf compressed_tensors browser
CLIENT_VENVS := $(foreach name,$(CLIENT_NAMES),$(CLIENTS)/$(name)/installed)
JSON_SCHEMA_SUITE := $(CLIENTS)/json_schema/jsonschema-4.26.0.tar.gz

.PHONY: demo serve test test-all check lint style conformance chaos soak fuzz licenses format clean

demo: $(VENV)/installed  ## set up, then serve five prompts with static and with iteration-level batching
	$(BIN)/orcinus demo

serve: $(VENV)/installed-serve  ## set up, then serve the bundled model at http://127.0.0.1:8000
	$(BIN)/orcinus serve

test: style  ## set up, then check and test everything
	$(PYTEST)

test-all: style  ## the same with whole products of choices, more examples and slow tests
	@$(BIN)/python -c 'import ray' 2> /dev/null || echo "Tests with Ray are skipped; to run them: $(INSTALL) -e '.[cluster]'"
	$(PYTEST) --all

test-%: $(VENV)/installed-test  ## one folder of tests: make test-core, make test-serve, ...
	$(PYTEST) tests/$*

check: lint  ## formatter, linter, types, structure
	$(BIN)/python -m pytest -q tests/architecture

style: $(VENV)/installed-test
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)

lint: style
	$(BIN)/mypy

conformance: $(VENV)/installed-test $(CLIENT_VENVS) $(JSON_SCHEMA_SUITE) tests/clients/node/node_modules/installed  ## the checklist and real clients
	$(BIN)/python -m tests.clients.run

chaos: $(VENV)/installed-test  ## kill engines under load: every stream must go on as if nothing had happened
	$(BIN)/python -m tests.chaos --kills 100 -- --simulate llama-7b
	$(BIN)/python -m tests.chaos --kills 20 -- --deterministic

soak: $(VENV)/installed-test  ## load of all kinds for 80 minutes: memory, files, threads and K/V blocks must stay flat
	$(BIN)/python -m tests.soak --minutes 60 -- --simulate llama-7b --speed 50
	$(BIN)/python -m tests.soak --minutes 20

MINUTES := 10
fuzz: $(VENV)/installed-test  ## damaged requests, bodies, templates, grammars, messages and files of models: make fuzz MINUTES=60
	$(BIN)/python -m tests.fuzz --minutes $(MINUTES)

licenses: $(VENV)/installed-test  ## every installed dependency with its licence; fails for one that is not allowed
	$(BIN)/orcinus licenses

format: $(VENV)/installed-test
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

clean:
	rm -rf $(VENV) $(CLIENTS) .venv-peers tests/clients/node/node_modules

$(VENV)/python-is-new-enough:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Orcinus needs Python 3.11 or newer: try make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/installed: $(VENV)/python-is-new-enough pyproject.toml constraints.txt
	@echo "Installing Orcinus and what it needs into $(VENV) (torch is large: this takes some minutes, once)"
	$(INSTALL) -e .
	@touch $@

$(VENV)/installed-serve: $(VENV)/installed
	$(INSTALL) -e '.[serve]'
	@touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(INSTALL) -e '.[test]'
	@touch $@

# Each client has an environment of its own, as with the people who use it.
$(CLIENTS)/%/installed: tests/clients/requirements-%.txt
	$(PYTHON) -m venv $(CLIENTS)/$*
	$(CLIENTS)/$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@

$(JSON_SCHEMA_SUITE): $(VENV)/installed-test  # whose source distribution carries the JSON Schema suite
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --no-binary jsonschema jsonschema==4.26.0 -d $(@D)

tests/clients/node/node_modules/installed: tests/clients/node/package-lock.json
	cd tests/clients/node && npm ci --silent --no-audit --no-fund
	@touch $@

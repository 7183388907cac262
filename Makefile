# Every target does its own set-up (scripts/setup.sh), once.
.DEFAULT_GOAL := help
.PHONY: help setup demo test check faults bench live-jarvis live-modal live-skypilot env locks wheel

BIN := .venv/bin

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Make .venv with the development tools
	@sh scripts/setup.sh

demo: setup ## Fine-tune a small real model here, and compare its answers before and after
	@$(BIN)/python scripts/demo.py

test: ## Run all tests, in stages with a printed budget each (at most 45 minutes on two cores)
	@sh scripts/setup.sh --test
	@$(BIN)/python scripts/test.py $(STAGES)

check: setup ## Run the quick checks: ruff, mypy, import-linter, unit tests (under two minutes)
	@FTLAUNCH_TEST_PYTHONS=this $(BIN)/python scripts/test.py style types imports locks unit

faults: setup ## Run every fault test in its full size; can be stopped and gone on with
	@sh scripts/setup.sh --test
	@$(BIN)/python scripts/faults.py $(FAULTS)

bench: setup ## Measure what benchmarks/README.md claims (needs an idle machine)
	@$(BIN)/python -m benchmarks.startup
	@$(BIN)/python -m benchmarks.dry_run
	@$(BIN)/python -m benchmarks.preflight
	@$(BIN)/python -m benchmarks.overhead
	@$(BIN)/python -m benchmarks.transfer

live-jarvis: setup ## Train a tiny recipe at Jarvis Labs for real, capped (JL_API_KEY, LIVE_MAX_COST=1 dollar)
	@$(BIN)/python scripts/live.py jarvis

live-modal: setup ## Train a tiny recipe at Modal for real, capped (MODAL_TOKEN_ID and _SECRET, LIVE_MAX_COST=1, LIVE_NODES=2)
	@$(BIN)/python scripts/live.py modal

live-skypilot: setup ## Train a tiny recipe behind your SkyPilot for real, capped (LIVE_MAX_COST=1, LIVE_NODES=2 for two nodes)
	@$(BIN)/python scripts/live.py skypilot

env: setup ## Make the managed axolotl environment for this machine
	@$(BIN)/ftlaunch env make

locks: setup ## Make the locks of the axolotl environment anew from pyproject.toml
	@$(BIN)/python scripts/lock_axolotl.py

wheel: setup ## Build the wheel and the sdist into dist/
	@$(BIN)/python -m build --outdir dist .

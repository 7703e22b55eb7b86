# `make` alone lists what can be made. Every target sets up what it needs.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STATE ?= .braincl
PRIVATE ?= .braincl-private
export FLWR_TELEMETRY_ENABLED = 0

.DEFAULT_GOAL := help

.PHONY: help
help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 14

$(VENV)/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dashboard,privacy,bench,backbones,export,dev]'
	touch $@

.PHONY: setup
setup: $(VENV)/.ready  ## make the virtual environment and install everything into it

.PHONY: demo
demo: setup  ## three hospitals learn six diagnoses; audits vaults, prints the results table (BRAINCL_DATA names a folder of MedMNIST files)
	$(BIN)/braincl run demo --state $(STATE) --fresh
	$(BIN)/braincl audit $(STATE)/site-*/demo --state $(STATE)
	$(BIN)/braincl results demo --state $(STATE)

SEALED := --vault-key file:$(PRIVATE)/vault.key --network-key file:$(PRIVATE)/network.key
CONTROLS := name=demo-private stream-examine=never privacy-mode=statistics cortex-features=64 cortex-weights=$(PRIVATE)/start.safetensors \
	memory-basis=fixed federation-masking=on federation-masking-threshold=3 privacy-noise=shared stream-test-per-class=200 \
	vault-key=file:$(abspath $(PRIVATE))/vault.key \
	network-key=file:$(abspath $(PRIVATE))/network.key

.PHONY: demo-private
demo-private: setup  ## the demo with every control on: vaults sealed and audited, sums masked, releases with differential privacy
	mkdir -p -m 700 $(PRIVATE)
	cd $(PRIVATE) && umask 077 && for key in vault network; do test -f $$key.key || head -c 32 /dev/urandom >$$key.key; done
	test -f $(PRIVATE)/start.safetensors || $(BIN)/braincl start public $(PRIVATE)/start.safetensors --split val
	$(BIN)/braincl run demo --state $(STATE) --fresh $(CONTROLS:%=-c %)
	$(BIN)/braincl results demo-private --state $(STATE)
	$(BIN)/braincl privacy ledger $(STATE)/site-0
	$(BIN)/braincl audit $(STATE)/site-*/demo-private $(SEALED) --state $(STATE) --out $(PRIVATE)/audit

.PHONY: compare
compare: setup  ## the demo beside plain fine-tuning and beside the demo without sleep
	$(BIN)/braincl run demo --state $(STATE) --fresh -c name=demo-finetune -c method=finetune
	$(BIN)/braincl run demo --state $(STATE) --fresh -c name=demo-without-sleep -c sleep-enabled=false
	$(BIN)/braincl results demo demo-finetune demo-without-sleep --state $(STATE)

.PHONY: dashboard
dashboard: setup  ## open the dashboard over the demo's run store
	$(BIN)/braincl dashboard --state $(STATE)

.PHONY: lint
lint: setup  ## ruff (lint and format) and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.PHONY: test
test: lint  ## lint, then the whole test suite
	$(BIN)/pytest

.PHONY: deploy-test
deploy-test: setup  ## break a federation of three hospitals on loopback, and see that nothing is lost (some minutes)
	BRAINCL_DRILLS=1 OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --durations=0 tests/deploy/drills

.PHONY: keys
keys: setup  ## write the keys that Flower may override into pyproject.toml
	$(BIN)/python -m braincl_med.settings.keys pyproject.toml

.PHONY: clean
clean:  ## delete the virtual environment and the demo's state
	rm -rf $(VENV) $(STATE)

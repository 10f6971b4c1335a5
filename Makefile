# Everything runs in .venv, which this file makes; nothing outside the tree changes but the cache
# of built binaries (FLEET_CACHE, ~/.cache/fleetloop unless set).
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV   := .venv
BIN    := $(VENV)/bin
BASE   := $(VENV)/.base
READY  := $(VENV)/.ready
PYTHON ?= $(shell for p in python3.12 python3.11 python3; do $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
CHAOS  ?=
ALGORITHM ?=
ROW ?=
MOST ?=
JOBS ?=

.PHONY: help setup binaries programs store demo test torture e2e lerobot page charts manifest scan sbom flux check format bench generate lock clean

help:  ## Say what can be made.
	@grep -hE '^[a-z0-9]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9]+):.*## /  make \1\t/' | expand -t 18

setup: $(READY)  ## Make .venv with everything pinned in requirements/dev.txt.

$(BASE): requirements/setup.txt
	@[ -n "$(PYTHON)" ] || { echo "no Python 3.11 or newer on PATH; install one or set PYTHON=" >&2; exit 1; }
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

$(READY): $(BASE) requirements/dev.txt pyproject.toml
	@echo "setup: Python packages into $(VENV) (torch is large; a minute or two)"
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --system-certs --require-hashes requirements/dev.txt requirements/setup.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

binaries: $(BASE)  ## Build or find etcd, kube-apiserver … nats-server, once.
	@PYTHONPATH=cli $(BIN)/python -m fleet_cli.local.binaries

# Downloads, checks and builds side by side: none keeps two cores busy by itself.
ASIDE  := --no-print-directory --jobs 3

demo:  ## Four simulated robots, a learner and an operator on a real control plane; CHAOS=1 kills them, ALGORITHM=recap|divl-qam learns otherwise.
	@$(MAKE) $(ASIDE) setup binaries
	@$(BIN)/fleet demo $(if $(CHAOS),--chaos) $(if $(ALGORITHM),--algorithm $(ALGORITHM))

test:  ## Every check and every test.
	@$(MAKE) $(ASIDE) check programs store
	$(BIN)/python -m pytest --numprocesses 3 --dist worksteal

# All that the tests start, in two: while one is linked, the other is compiled.
programs: $(BASE)
	@PYTHONPATH=cli $(BIN)/python -m fleet_cli.local.binaries gitops-judge
	@PYTHONPATH=cli $(BIN)/python -m fleet_cli.local.prometheus

store: $(BASE)
	@PYTHONPATH=cli $(BIN)/python -m fleet_cli.local.binaries versitygw

# Rows of docs/reliability.md, in part: ROW=5,6 MOST=20 JOBS=2. What was run already is not run again.
torture: $(READY) binaries  ## Hours: operator, data plane, learner and robot under every fault; ROW=5 for one row.
	@PYTHONPATH=tests $(BIN)/python -m faults $(if $(ROW),--rows $(ROW)) $(if $(MOST),--most $(MOST)) $(if $(JOBS),--jobs $(JOBS))

e2e: $(READY)  ## Install it all on a real node: as root, on Debian 12, with 40 GB of disk.
	@PYTHONPATH=tests $(BIN)/python -m e2e

# Of its own: lerobot wants an older torch than ours, and Python 3.12.
LEROBOT := $(or $(FLEET_CACHE),$(HOME)/.cache/fleetloop)/lerobot-0.6.1

lerobot: $(READY)  ## Let lerobot itself load what we export, and its policies train here.
	@tests/lerobot/setup $(LEROBOT)
	FLEET_LEROBOT=$(LEROBOT)/bin/python $(BIN)/python -m pytest tests/foreign
	OMP_NUM_THREADS=1 $(LEROBOT)/bin/python -m pytest tests/lerobot -o filterwarnings=default

page: $(READY)  ## Look at the page of `fleet dashboard` in a real Chromium; fetched once, 124 MB.
	$(BIN)/python -m pytest tests/browser

charts: $(READY)  ## Let Helm itself install, upgrade and remove the chart, and an earlier fleet go on; builds Helm once, two minutes.
	@$(BIN)/python -m fleet_cli.local.binaries helm
	$(BIN)/python -m pytest tests/charts

manifest: $(READY)  ## Write out/install.yaml: all but a broker and a store, in one file.
	@mkdir -p out
	@kubectl=$$($(BIN)/python -c "from fleet_cli.local.binaries import resolve; print(resolve('kubectl')['kubectl'])"); \
	  $$kubectl kustomize manifests/overlays/install > out/install.yaml
	@echo "out/install.yaml: kubectl apply --server-side -f out/install.yaml"

# Of their own: what judges our code is no part of it.
SCAN := $(or $(FLEET_CACHE),$(HOME)/.cache/fleetloop)/scan

$(SCAN)/.ready: requirements/scan.txt | $(READY)
	@$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python $(SCAN)
	@$(BIN)/uv pip sync --quiet --python $(SCAN)/bin/python --system-certs --require-hashes $<
	@touch $@

# B310, URLs that are opened: ruff's S310 holds each such line to a reason.
scan: $(SCAN)/.ready manifest  ## What checkov and bandit find, less what manifests/checkov.yaml gives a reason for.
	@mkdir -p out/scan && kubectl=$$($(BIN)/python -c "from fleet_cli.local.binaries import resolve; print(resolve('kubectl')['kubectl'])"); \
	  for overlay in manifests/overlays/*; do $$kubectl kustomize $$overlay > out/scan/$${overlay##*/}.yaml; done
	$(SCAN)/bin/checkov --config-file manifests/checkov.yaml --directory out/scan --framework kubernetes
	$(SCAN)/bin/checkov --config-file manifests/checkov.yaml --file Dockerfile --framework dockerfile
	$(SCAN)/bin/bandit --quiet --recursive --severity-level medium --skip B310 crds operator runtime cli

sbom: $(SCAN)/.ready  ## Write out/sbom/*.json: what each image holds of others' packages, in CycloneDX.
	@mkdir -p out/sbom; for image in operator learner robot; do \
	  $(SCAN)/bin/cyclonedx-py requirements --output-reproducible \
	    --outfile out/sbom/$$image.json requirements/$$image.txt; done

flux: $(READY)  ## Let Flux itself sync jobs and robots; builds its controller once, some minutes.
	@$(BIN)/python -m fleet_cli.local.binaries kustomize-controller
	$(BIN)/python -m pytest tests/flux

check: $(READY)  ## Format, lint, types, walls between rooms, generated files.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy -p fleet_contract -p fleet_operator -p fleet_runtime -p fleet_cli
	$(BIN)/mypy tests benchmarks
	$(BIN)/lint-imports --no-cache

format: $(READY)  ## Let ruff rewrite what it can.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

generate: $(READY)  ## Write crds/*.yaml, docs/*.md and manifests/components/monitoring from the models.
	$(BIN)/fleet crds --output crds
	$(BIN)/fleet docs reference --output docs/reference.md
	$(BIN)/fleet docs metrics --output docs/metrics.md
	$(BIN)/fleet docs alerts --output docs/alerts.md
	$(BIN)/fleet docs algorithms --output docs/algorithms.md
	$(BIN)/fleet docs policies --output docs/policies.md
	$(BIN)/fleet docs rollout --output docs/rollout.md
	$(BIN)/fleet docs cli --output docs/cli.md
	$(BIN)/python -m fleet_cli.monitoring manifests/components/monitoring

bench: $(READY) binaries  ## Every benchmark, short.
	@failed=; for file in benchmarks/[a-z]*.py $$(grep -l ^TABLE benchmarks/papers/*.py); do \
	  name=$$(tr / . <<<$${file%.py}); \
	  echo "== $$name"; $(BIN)/python -m $$name --smoke || failed="$$failed $$name"; done; \
	  [ -z "$$failed" ] || { echo "short:$$failed"; exit 1; }

LOCK = $(BIN)/uv pip compile --quiet --system-certs --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-header

lock: $(READY)  ## Write requirements/*.txt anew.
	$(LOCK) requirements/build.in -o requirements/build.txt
	$(LOCK) pyproject.toml --extra operator -o requirements/operator.txt
	$(LOCK) pyproject.toml --extra learner --extra otel -o requirements/learner.txt
	$(LOCK) pyproject.toml --extra robot --extra otel -o requirements/robot.txt
	$(LOCK) pyproject.toml --extra dev -o requirements/dev.txt
	$(LOCK) requirements/scan.in -o requirements/scan.txt
	$(LOCK) requirements/setup.in -c requirements/dev.txt -o requirements/setup.txt

clean:  ## Remove .venv and what tools left in the tree.
	rm -rf $(VENV) out .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

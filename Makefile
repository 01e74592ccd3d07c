# Every target makes .venv first, from requirements.lock, when the lock or pyproject.toml changed.
# Nothing else is needed than Python 3.11, make, gcc and Git.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3.11
VENV := .venv
READY := $(VENV)/.ready
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export PYTHONHASHSEED := 0

.PHONY: help
help: ## list the targets
	@sed -nE 's/^([a-z][a-z._-]*):.*## (.*)/\1 \2/p' Makefile | awk '{t=$$1; $$1=""; printf "make %-10s%s\n", t, $$0}'

.PHONY: repro
repro: $(READY) ## run every stale stage of the pipeline (dvc repro)
	python -m tools.check_params
	dvc repro

.PHONY: test
test: $(READY) ## lint, types and all tests
	ruff check .
	ruff format --check .
	mypy
	pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: smoke
smoke: $(READY) ## run the whole DAG on the tiny profile in a temporary copy
	python -m tools.smoke

.PHONY: convergence
convergence: $(READY) ## train the controls to convergence, for the data card (a quarter of an hour)
	python -m tools.converge_controls

PART ?= compare
.PHONY: study
study: $(READY) ## run what is missing of PART of tools/study/*.yaml (hours; PART=compare), and read it back; KEEP=1: the table's rows count
	python -m tools.study run $(PART) $(if $(KEEP),--keep)
	python -m tools.study.report
	python -m tools.write_readme
	python -m tools.write_dvc_yaml

.PHONY: arms
arms: ## the tables of arms and their ceilings: make study, PART=screen, controls_all, compare, ceiling (hours)
	$(MAKE) study PART=screen
	$(MAKE) study PART=controls_all
	$(MAKE) study PART=compare
	$(MAKE) study PART=ceiling

.PHONY: labels
labels: ## the sweep over labels: make study PART=labels (hours)
	$(MAKE) study PART=labels

.PHONY: bench
bench: $(READY) ## compare costs, e.g. of dvc repro with nothing to do; needs an up-to-date repository
	python -m tools.bench
	python -m tools.bench_listing

.PHONY: plots
plots: $(READY) ## draw curves, bars and pictures on one page, dvc_plots/index.html (dvc plots show)
	dvc plots show

.PHONY: report
report: $(READY) ## write the README's DAG and tables and the data card's anew from dvc.yaml and metrics/
	python -m tools.write_readme
	python -m tools.write_data_card
	python -m tools.study.report

dvc.yaml: $(READY) ## write dvc.yaml anew from src/geobody/paths.py and the imports
	python -m tools.write_dvc_yaml
.PHONY: dvc.yaml

.PHONY: lock
lock: $(READY) ## write requirements.lock anew from pyproject.toml
	python -m tools.lock
	python -m tools.write_versions

.PHONY: versions
versions: $(READY) ## write versions.yaml anew from requirements.lock and the imports
	python -m tools.write_versions

PIP := $(VENV)/bin/python -m pip --disable-pip-version-check --quiet install
BUILD := $(VENV)/build-requirements.txt

# Source packages are built with the locked setuptools and wheel (which needs packaging), so these come first.
$(READY): requirements.lock pyproject.toml
	@command -v $(PYTHON) > /dev/null || { echo "error: $(PYTHON): is missing; install Python 3.11" >&2; exit 3; }
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	awk '/^[^ #]/ { keep = /^(setuptools|wheel|packaging)==/ } keep' requirements.lock > $(BUILD)
	$(PIP) --require-hashes -r $(BUILD)
	$(PIP) --require-hashes --no-build-isolation --use-pep517 -r requirements.lock
	$(PIP) --no-deps --no-build-isolation --editable .
	touch $@

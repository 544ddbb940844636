# make book | make lab | make test | make test-all: each makes the environment it needs.
# PIP_ARGS goes to pip, for instance to choose a CPU build of torch (see README).

PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
CHAPTER ?=
BOOK_ARGS ?=

ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
PY := $(BIN)/python

.DEFAULT_GOAL := help
.PHONY: help book lab test test-all sync adopt execute ledger check ready lint clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-10s %s\n", $$1, $$2}' Makefile

$(VENV)/.made:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade pip
	@touch $@

$(VENV)/.book: $(VENV)/.made book/requirements.txt
	$(PY) -m pip install --quiet -r book/requirements.txt
	@touch $@

$(VENV)/.all: $(VENV)/.book pyproject.toml
	$(PY) -m pip install --quiet $(PIP_ARGS) -r book/requirements.txt -e ".[cluster,lab,test]"
	@touch $@

book: $(VENV)/.book ## build the book into _build/html (needs no torch)
	$(BIN)/jupyter-book build $(BOOK_ARGS) book/
	@echo "Open _build/html/index.html"

lab: $(VENV)/.all ## open all chapters in JupyterLab, ready to run
	$(BIN)/jupyter lab --notebook-dir=book

test: $(VENV)/.all ## what a reader waits for
	$(PY) -m pytest -q -m "not slow"

test-all: $(VENV)/.all ## everything: every chapter executed, faults, end to end
	$(PY) -m pytest -q

sync: $(VENV)/.all ## texts to notebooks, chapters to package; DISCARD=20_vae drops edits made in its notebook
	$(PY) book/tools/export.py
	$(PY) book/tools/sync.py $(if $(DISCARD),--discard "$(DISCARD)")

adopt: $(VENV)/.all ## bring edits made in a notebook back into its text: CHAPTER=20_vae
	$(PY) book/tools/sync.py --adopt "$(CHAPTER)"

execute: $(VENV)/.all ## run the chapters that are stale; CHAPTER=20_vae for one, FORCE=1 in any case, JOBS=1 one by one
	$(PY) book/tools/execute.py "$(CHAPTER)" $(if $(FORCE),--force) $(if $(JOBS),--jobs $(JOBS))
	$(PY) figures/from_notebooks.py
	$(PY) figures/results_table.py

ledger: $(VENV)/.all ## run the tests of the paper's equations and record what they find
	$(PY) book/tools/ledger.py

check: $(VENV)/.all ## fail on one byte of drift between texts, notebooks and package
	$(PY) book/tools/check.py
	$(PY) book/tools/ledger.py --check
	$(PY) figures/from_notebooks.py --check
	$(PY) figures/results_table.py --check

ready: ## all that a commit needs: sync, execute, ledger, check
	@$(MAKE) --no-print-directory sync
	@$(MAKE) --no-print-directory execute
	@$(MAKE) --no-print-directory ledger
	@$(MAKE) --no-print-directory check

lint: $(VENV)/.all ## ruff over package, tools and tests
	$(PY) -m ruff check cdlm book/tools book/_ext tests figures

clean: ## remove what is built, not the environment
	rm -rf _build build *.egg-info

# make book | make lab | make test | make test-all: each makes the environment it needs.
# PIP_ARGS goes to pip, for instance to choose a CPU build of torch (see README). JOBS is the number of cores that tests use.

PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
CHAPTER ?=
JOBS ?=
BOOK_ARGS ?=
ADDRESS ?=

ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
PY := $(BIN)/python

# Pip's lines are hundreds; a reader who waits wants to know that it goes on. Its errors come through, and fail the recipe.
define install
	@echo "Installing $(1): some minutes the first time. Large packages are named as they come:"
	@{ $(PY) -m pip install --progress-bar off $(2) || echo FAILED; } \
	| while read -r line; do case "$$line" in \
	*"("[0-9][0-9]*" MB)") echo "  $$line";; \
	"Installing collected"*) echo "  unpacking";; \
	FAILED) exit 1;; \
	esac; done
endef

# Tests that measure time run alone at the end, from the files that have some. Both parts run, and the worse status counts.
define tests
	@status=0; \
	$(PY) -m pytest -q -n $(or $(JOBS),auto) -m "$(1)not quiet" $(2) || status=$$?; \
	$(PY) -m pytest -q -m "$(1)quiet" $(2) $(shell grep -lr mark.quiet tests --include=test_*.py) || status=$$?; \
	exit $$status
endef

, := ,

.DEFAULT_GOAL := help
.PHONY: help book book-sphinx chapter lab test test-all test-everything test-chapters assignments grade slides figures-pack pdf course publish-check sync adopt execute verify ledger seal check ready lint clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-15s %s\n", $$1, $$2}' Makefile

$(VENV)/.made:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade pip
	@touch $@

$(VENV)/.book: $(VENV)/.made book/requirements.txt
	$(call install,what building the book needs,-r book/requirements.txt)
	@touch $@

$(VENV)/.all: $(VENV)/.book pyproject.toml
	$(call install,torch$(,) JupyterLab and the rest,$(PIP_ARGS) -r book/requirements.txt -e ".[cluster$(,)export$(,)lab$(,)tensorboard$(,)test]")
	@touch $@

book: $(VENV)/.book ## build the book into _build/html (needs no torch)
	@found=$$($(BIN)/jupyter-book --version | head -n 1); case "$$found" in *Book*": 1."*) ;; *) \
	echo "This book needs Jupyter Book 1.x, not $$found: say $(PY) -m pip install -r book/requirements.txt" >&2; exit 1;; esac
	$(BIN)/jupyter-book build $(BOOK_ARGS) book/
	@echo "Open _build/html/index.html"

book-sphinx: $(VENV)/.book ## build the same book without Jupyter Book, into _build/sphinx/html
	$(PY) book/tools/sphinx_conf.py _build/sphinx
	$(PY) -m sphinx -b html $(BOOK_ARGS) -c _build/sphinx -d _build/sphinx/doctrees book _build/sphinx/html
	@echo "Open _build/sphinx/html/index.html"

chapter: $(VENV)/.all ## write the skeleton of a new chapter: CHAPTER=58_priors
	$(PY) book/tools/new_chapter.py "$(CHAPTER)"

lab: $(VENV)/.all ## open all chapters in JupyterLab, ready to run
	$(BIN)/jupyter lab --notebook-dir=book

test: $(VENV)/.all ## what a reader waits for: all that is quick, and what has changed since it was last on record
	$(call tests,not slow and ,)

test-all: $(VENV)/.all ## every chapter in its smallest size, faults, end to end; in the book's size what has no record of that
	$(call tests,,)

test-everything: $(VENV)/.all ## test-all with every chapter in the book's size, whatever is on record
	$(call tests,,--everything)

test-chapters: $(VENV)/.all ## of test-everything, the chapters in the book's size
	$(PY) -m pytest -q -n $(or $(JOBS),auto) --everything -k in_the_size_of_the_book

sync: $(VENV)/.all ## texts to notebooks, chapters to package; DISCARD=20_vae drops edits made in its notebook
	$(PY) book/tools/export.py
	$(PY) book/tools/sync.py $(if $(DISCARD),--discard "$(DISCARD)")

adopt: $(VENV)/.all ## bring edits made in a notebook back into its text: CHAPTER=20_vae
	$(PY) book/tools/sync.py --adopt "$(CHAPTER)"

execute: $(VENV)/.all ## run the chapters that are stale; CHAPTER=20_vae for one, FORCE=1 in any case, JOBS=1 one by one
	$(PY) book/tools/execute.py "$(CHAPTER)" $(if $(FORCE),--force) $(if $(JOBS),--jobs $(JOBS))
	$(PY) figures/from_notebooks.py
	$(PY) figures/results_table.py

verify: $(VENV)/.all ## run chapters without a record in the book's size, compare, record; CHAPTER=20_vae for one
	$(PY) book/tools/verify.py "$(CHAPTER)" $(if $(JOBS),--jobs $(JOBS))

ledger: $(VENV)/.all ## run the tests of the paper's equations and record what they find
	$(PY) book/tools/ledger.py

seal: $(VENV)/.all ## note checksums of new records and figures; AGAIN=domain_shift for one that was changed on purpose
	$(PY) book/tools/checksums.py $(if $(AGAIN),--again "$(AGAIN)")

check: $(VENV)/.all ## fail on one byte of drift between texts, notebooks and package, or in what is recorded or drawn
	$(PY) book/tools/checksums.py --check
	$(PY) book/tools/check.py
	$(PY) book/tools/ledger.py --check
	$(PY) figures/from_notebooks.py --check
	$(PY) figures/results_table.py --check
	$(PY) figures/logo.py --check

ready: ## all that a commit needs: sync, execute, ledger, seal, check
	@$(MAKE) --no-print-directory sync
	@$(MAKE) --no-print-directory execute
	@$(MAKE) --no-print-directory ledger
	@$(MAKE) --no-print-directory seal
	@$(MAKE) --no-print-directory check

assignments: $(VENV)/.all ## student and instructor notebooks of the course, into _build/course
	$(PY) book/tools/course.py make

grade: $(VENV)/.all ## marks and feedback: NAME=vae SUBMISSIONS="anna.ipynb ben.ipynb"
	$(PY) book/tools/course.py grade "$(NAME)" $(SUBMISSIONS)

slides: $(VENV)/.all book ## slides of all chapters from the built book, into _build/course/slides; CHAPTER=20_vae for one
	$(PY) book/tools/slides.py "$(CHAPTER)"

figures-pack: $(VENV)/.all book ## every figure of the book as SVG and PDF, with captions, into _build/course/figures
	$(PY) book/tools/figure_pack.py "$(CHAPTER)"

pdf: $(VENV)/.all book ## the whole book and the cheat sheet for paper, into _build/course
	$(PY) book/tools/paper.py "$(CHAPTER)"

course: assignments slides figures-pack pdf ## all of these, for those who teach
	@echo "All of it is in _build/course"

publish-check: $(VENV)/.made ## whether the book knows its address; ADDRESS=https://github.com/NAME/REPOSITORY sets it
	$(PY) book/tools/publish.py $(if $(ADDRESS),--set "$(ADDRESS)")

lint: $(VENV)/.all ## ruff over package, tools and tests
	$(PY) -m ruff check cdlm book/tools book/_ext tests figures

clean: ## remove what is built, not the environment
	rm -rf _build build *.egg-info

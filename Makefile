# `make demo` and `make test` do all the set-up they need; the rest is for daily work.
PYTHON ?= python3
# One assignment, as in `make demo ASSIGNMENT=iwae`; all of them if it is empty.
ASSIGNMENT ?=
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# What fails in the middle of a pipe fails.
SHELL := bash
.SHELLFLAGS := -o pipefail -c
# Tests and notebooks run side by side; the threads of each would wait for the other's.
test lectures: export OMP_NUM_THREADS := 1

.PHONY: demo test lint lectures book release lab clean

$(VENV)/installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "This needs Python 3.11 or newer; name one with make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@echo "Setting up $(VENV) with the versions of requirements.txt; the first time takes some minutes."
	@$(BIN)/pip install --progress-bar off --requirement requirements.txt \
		| awk '/^Collecting/ {print "  " $$2; fflush()} /^Installing/ {print $$1 " …"; fflush()}'
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

demo: $(VENV)/installed
	$(BIN)/dgm demo $(ASSIGNMENT)

test: lint
	$(BIN)/pytest --numprocesses 2 --dist loadgroup
	$(BIN)/pytest --nbval-lax --numprocesses 2 --dist loadfile lectures solutions

lint: $(VENV)/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/python tests/rigs/notebooks.py
	$(BIN)/dgm release --check

lectures: $(VENV)/installed
	$(BIN)/pytest --nbval-lax lectures

book: $(VENV)/installed
	rm -rf _build/book
	$(BIN)/python book/build.py _build/book

release: $(VENV)/installed
	$(BIN)/dgm release

lab: $(VENV)/installed
	$(BIN)/jupyter lab

clean:
	rm -rf $(VENV) _build

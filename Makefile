# Each target is one or two plain commands; README.md names them for systems without make.
# Kept to sh and to GNU make 3.81, the one that macOS ships.
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# make study PROFILE=open DATA=path/to/data JOBS=4
PROFILE ?= demo
DATA ?=
JOBS ?=
# Otherwise the first of the usual names that is new enough.
PYTHON ?=

# A variable as one word for the shell, just as it was typed: neither make nor the shell makes anything of what is in it.
typed = '$(subst ','\'',$(value $(1)))'
unexport PROFILE DATA JOBS

.DEFAULT_GOAL := help
.PHONY: help study book test lint format environment clean

help:
	@echo "make study   run the study and build the book   PROFILE=demo DATA=folder JOBS=n"
	@echo "make book    build the book from what has been run"
	@echo "make test    run the tests                       DATA=folder JOBS=n"
	@echo "make lint    style and types      make format    mend the style"
	@echo "make clean   remove what tools left (keeps runs/ and $(VENV))"

study: environment
	@$(BIN)/braintransfer run --profile $(call typed,PROFILE) $(if $(value DATA),--data $(call typed,DATA)) \
	  $(if $(value JOBS),--jobs $(call typed,JOBS))
	@$(BIN)/braintransfer book --profile $(call typed,PROFILE)

# Without PROFILE= from whatever has been run; prose and the book's own run need none.
book: environment
	@$(BIN)/braintransfer book $(if $(filter command environment,$(origin PROFILE)),--profile $(call typed,PROFILE))

# A file's tests stay in one process (loadfile), so that they share what its fixtures made. Folders in the order of
# pyproject.toml's testpaths: the long ones come first, and no process waits for the other at the end.
test: environment
	@$(BIN)/python -m pytest $(if $(value DATA),--data $(call typed,DATA)) \
	  $(if $(value JOBS),--numprocesses $(call typed,JOBS),--numprocesses logical --maxprocesses 4) --dist loadfile --no-loadscope-reorder

lint: environment
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: environment
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

environment: $(STAMP)

# The stamp is written last: an installation that was cut short is taken up again by the next make.
# Byte code is made for all packages here, on all cores: without it each stage's kernel would compile what it imports
# (12 s more a stage) wherever Python may not write byte code, as in many containers.
$(STAMP): pyproject.toml constraints.txt
	@python=; \
	for candidate in $(if $(PYTHON),$(PYTHON),python3 python3.13 python3.12 python3.11 python); do \
	  if "$$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; \
	  then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "Needs Python 3.11, 3.12 or 3.13; found `$(if $(PYTHON),$(PYTHON),python3) --version 2>/dev/null || echo none`. Install one, or say where it is: make PYTHON=/path/to/python3.11" >&2; \
	  exit 1; \
	fi; \
	if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  echo "Making $(VENV) with `$$python --version`."; \
	  "$$python" -m venv --clear $(VENV) || exit 1; \
	fi
	@echo "Installing the pinned packages; once, some minutes."
	@$(BIN)/python -m pip install --no-compile --progress-bar off -c constraints.txt -e ".[test]"
	@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	@touch $(STAMP)

clean:
	rm -rf _build .pytest_cache .ruff_cache .mypy_cache src/*.egg-info
	find src tests notebooks -name __pycache__ -type d -prune -exec rm -rf {} +

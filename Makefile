# Everything from a machine that has Python (3.11 or newer) and make:
#
#   make tour                      train and compare likelihoods on real data
#   make test                      the test suite, without the tests that take long
#   make test-slow                 those: examples, notebooks, float64's contract, long compilations
#   make test PYTHON=python3.12    the same on another Python, in an environment of its own
#
# Every command works in an environment inside this folder; the system's Python is only asked to
# make it. `make help` lists the rest.

TOUR_ARGS ?=
TEST_ARGS ?=
SUITE ?= all

# The interpreter. One that was asked for is the only one tried and gets its own environment, named
# after its version; otherwise the first that suits makes .venv, and a .venv that is there is kept.
ASKED := $(PYTHON)
CANDIDATES := $(if $(ASKED),$(ASKED),python3 python3.13 python3.12 python3.11 python)
# New enough, and able to make an environment and to fill it (Debian splits ensurepip off).
SUITS = import sys, venv; from importlib.util import find_spec as has; \
  sys.exit(sys.version_info < (3, 11) or not (has("ensurepip") or has("pip")))

# Shell code: sets `found` to the first candidate that suits. A name on PATH may be a shim that runs
# nothing, so each is tried; then the versions that pyenv holds.
define FIND
found=; \
for name in $(CANDIDATES); do \
  for python in "$$name" "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/*/bin/"$$name"; do \
    if "$$python" -c '$(SUITS)' >/dev/null 2>&1; then found=$$python; break 2; fi; \
  done; \
done
endef

VERSION := $(if $(ASKED),$(shell $(FIND); test -z "$$found" || "$$found" -c 'import sys; print("%d.%d" % sys.version_info[:2])'))
VENV ?= .venv$(if $(ASKED),-$(VERSION))
BIN := $(VENV)/bin/python

# An environment whose Python no longer runs, or that was copied here with the tree from another
# folder (it would import the other folder's likelax), is made anew.
STATE := $(shell \
  if ! test -e $(BIN) || ! $(BIN) -c '' >/dev/null 2>&1; then echo none; \
  elif test -e $(VENV)/.home && test "$$(cat $(VENV)/.home)" != "$(CURDIR)"; then echo moved; \
  else echo ready; fi)
REMAKE := $(if $(filter ready,$(STATE)),,FORCE)

EXTRAS_tour := train,plot,data
EXTRAS_dev := dev
EXTRAS_bench := dev,bench

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help tour test test-slow smoke lint format bench clean python environment FORCE
.DEFAULT_GOAL := help

help:
	@echo 'make tour       train and compare likelihoods on real data (TOUR_ARGS="--steps 200")'
	@echo 'make test       the test suite, without the slow tests (TEST_ARGS="-k normal")'
	@echo 'make test-slow  the slow tests: examples, notebooks, float64, long compilations'
	@echo 'make smoke      every third test of each file, without the slow ones'
	@echo 'make lint       formatting, lint and types; changes nothing'
	@echo 'make format     put imports and layout right'
	@echo 'make bench      the benchmarks (SUITE=log_prob, sampling, special ... or all)'
	@echo 'make clean      remove environments and caches'
	@echo 'Add PYTHON=python3.12 to use another Python, in an environment of its own.'

tour: $(VENV)/.installed-tour
	$(BIN) -m likelax tour $(TOUR_ARGS)

PYTEST = $(BIN) -m pytest -n auto --maxprocesses=8 --dist=worksteal

test: $(VENV)/.installed-dev
	$(PYTEST) -m 'not slow' $(TEST_ARGS)

test-slow: $(VENV)/.installed-dev
	$(PYTEST) -m slow $(TEST_ARGS)

smoke: $(VENV)/.installed-dev
	$(PYTEST) --smoke $(TEST_ARGS)

lint: $(VENV)/.installed-dev
	$(BIN) -m ruff format --check .
	$(BIN) -m ruff check .
	$(BIN) -m mypy likelax

format: $(VENV)/.installed-dev
	$(BIN) -m ruff check --fix .
	$(BIN) -m ruff format .

bench: $(VENV)/.installed-bench
	$(BIN) benchmarks/run.py $(SUITE) --out benchmarks/results

clean:
	rm -rf .venv .venv-* build dist .pytest_cache .mypy_cache .ruff_cache .jax_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The interpreter that would be used, for scripts; fails where there is none.
python:
	@$(FIND); test -n "$$found" && echo "$$found"

environment: $(BIN)

# Installed anew when pyproject.toml changes. The code itself is installed editable.
$(VENV)/.installed-%: pyproject.toml $(REMAKE) | $(BIN)
	@$(BIN) -c '$(SUITS)' || { echo 'The Python in $(VENV) is older than 3.11: remove that folder, or choose another with VENV=folder.' >&2; exit 1; }
	@$(BIN) -m pip --version >/dev/null 2>&1 || $(BIN) -m ensurepip
	$(BIN) -m pip install --quiet --editable '.[$(EXTRAS_$*)]'
	@printf '%s' '$(CURDIR)' > $(VENV)/.home
	@touch $@

$(BIN): $(REMAKE)
	@$(FIND); \
	if test -z "$$found"; then \
	  echo 'likelax needs Python 3.11 or newer that can make environments; none of these does: $(CANDIDATES).' >&2; \
	  echo 'Install one (on Debian and Ubuntu: sudo apt install python3 python3-venv), or name one:' >&2; \
	  echo '  make $(or $(firstword $(MAKECMDGOALS)),test) PYTHON=/path/to/python3' >&2; \
	  exit 1; \
	fi; \
	echo "Making $(VENV) with $$("$$found" --version)"; \
	if "$$found" -c 'import ensurepip' >/dev/null 2>&1; then \
	  "$$found" -m venv --clear $(VENV); \
	else \
	  "$$found" -m venv --clear --without-pip $(VENV) && \
	  "$$found" -m pip --python $(BIN) install --quiet pip; \
	fi

FORCE:

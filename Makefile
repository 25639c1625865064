# Needs Python 3.11 or newer and make; everything else goes into .venv.
#
#   PYTHON      the interpreter that .venv is made from                    (make install PYTHON=python3.13)
#   JOBS        how many tests run at once                                 (make test JOBS=8)
#   FULL=1      the benchmarks in full instead of quick versions          (make benchmarks FULL=1)
#   TORCH_ARGS  extra pip arguments for torch only, for a build of your choice, such as CPU or one CUDA version

PYTHON ?= python3
JOBS ?= 2
TORCH_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
TORCH := $(shell grep '^torch==' constraints.txt)

# READY is newer than what it depends on when the environment is complete; BUSY is there while it is being made
READY := $(VENV)/.ready
BUSY := $(VENV)/.busy
DOCS_READY := $(VENV)/.docs_ready

.DEFAULT_GOAL := help
.PHONY: help install demo test lint docs benchmarks clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

install: $(READY)  ## make .venv with si_neuroml and all that its tests need

demo: $(READY)  ## localize the spikes of a simulated recording; figures go to outputs/
	@mkdir -p outputs
	MPLBACKEND=Agg $(BIN)/python examples/01_localize_spikes.py

# a file of tests at a time in each process; one thread each, as more would wait for each other
test: lint  ## lint, then run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile

lint: $(READY)  ## check style and formatting
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

docs: $(DOCS_READY)  ## run the examples and build the pages, to docs/_build/html
	MPLBACKEND=Agg $(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs docs/_build/html
	@echo "Open docs/_build/html/index.html"

benchmarks: $(READY)  ## a quick version of every benchmark and one table of all; FULL=1 for everything
	$(BIN)/python benchmarks/run_all.py $(if $(FULL),--full)

clean:  ## remove caches and outputs (to remove the environment too: rm -r .venv)
	rm -rf build dist outputs docs/_build docs/gallery docs/generated .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# An install that was interrupted may leave half a package, which pip then takes for a whole one: start again.
# torch comes first and by itself, so that the build chosen for it stays.
$(READY): pyproject.toml constraints.txt
	@command -v $(PYTHON) > /dev/null || { echo "$(PYTHON) was not found. Try: make install PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "si_neuroml needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)."; \
		echo "Try: make install PYTHON=python3.12"; exit 1; }
	@if [ -e $(BUSY) ]; then echo "The last install was interrupted: removing $(VENV)."; rm -rf $(VENV); fi
	@mkdir -p $(VENV) && touch $(BUSY)
	@echo "[1/3] environment in $(VENV)"
	@$(BIN)/python -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	@echo "[2/3] $(TORCH) (the largest part; several minutes on a slow connection)"
	@$(PIP) install $(TORCH_ARGS) $(TORCH)
	@echo "[3/3] si_neuroml and its dependencies"
	@$(PIP) install --constraint constraints.txt --editable '.[dev]'
	@rm -f $(BUSY) && touch $(READY)
	@echo "Ready: $(BIN)/python"

$(DOCS_READY): $(READY)
	@$(PIP) install --constraint constraints.txt --editable '.[docs]'
	@touch $(DOCS_READY)

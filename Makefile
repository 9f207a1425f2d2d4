# make demo    set up and fit the sample scene: a report and a picture at the end
# make test    set up and run the tests
# Needs Python 3.10 or newer and make, nothing else.

PYTHON ?= python3
VENV   ?= .venv
# The torch that is set up.  Plain PyPI gives Linux machines a CUDA build of several gigabytes; for the CPU build:
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH       ?= torch==2.13.0
TORCH_INDEX ?=
TESTS       ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help demo test test-all lint format bench docs clean

help:
	@echo "make demo      set up, fit scenes/sample, print where the report and the picture are"
	@echo "make test      set up and run the tests (TESTS=path for some); make test-all: the slow ones too"
	@echo "make lint      formatting, lint and types; make format repairs the first two"
	@echo "make bench     run the benchmarks and write the tables of README.md"
	@echo "make docs      write the options of stages into docs/, then the site into build/site"
	@echo "make clean     remove the environment and caches; never runs/"

demo: $(VENV)/.installed
	$(BIN)/relight fit scenes/sample/scene.yaml

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest --numprocesses auto --dist loadscope $(TESTS)

test-all: $(VENV)/.installed-dev
	$(BIN)/python -m pytest --numprocesses auto --dist loadscope -m "not gpu" $(TESTS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.installed-dev
	for script in splat_speed splat_scaling splat_memory kernel_compile; do \
	    $(BIN)/python -m benchmarks.$$script || exit 1; done
	$(BIN)/python -m benchmarks.tables

docs: $(VENV)/.installed-docs
	$(BIN)/python -m docs.options
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "build/site/index.html"

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path "./runs/*" -prune -exec rm -rf {} +

# Stamps: nothing is installed again until pyproject.toml or this file changes.
$(VENV)/.installed: pyproject.toml Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo "relight needs Python 3.10 or newer; name one with: make PYTHON=/path/to/python3"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	    { rm -rf $(VENV); echo "python -m venv failed (Debian, Ubuntu: apt install python3-venv)"; exit 1; }
	@echo "setting up $(VENV): $(TORCH), then relight and what it needs; a few minutes the first time"
	$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$(TORCH)"
	$(PIP) -e ".[mesh,features,diffusion]" "$(TORCH)"
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) -e ".[dev]" "$(TORCH)"
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(PIP) -e ".[docs]" "$(TORCH)"
	@touch $@

# Each target does all the set-up it needs. A different build of PyTorch, or a mirror: make tour PIP_ARGS="...".
PYTHON ?= python3
PIP_ARGS ?=
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(PIP_ARGS)
TOUR := eora s4d soap dpm-solver-v3 fastrp monarch
# Tests and studies run two at a time, so each keeps to one thread of linear algebra.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

.PHONY: tour test lint floors tests smoke bench docs clean

tour: .venv/ready-tour
	@$(BIN)/ritz study $(TOUR) --jobs 2
	@$(BIN)/ritz report

test: lint floors tests smoke

lint: .venv/ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

floors: .venv/ready-test
	$(BIN)/lint-imports --no-cache

tests: .venv/ready-test
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 --dist worksteal --durations 10 --cov --cov-report term

smoke: .venv/ready-test
	$(BIN)/ritz study --all --scale smoke --jobs 2 --runs runs/smoke

bench: .venv/ready-test
	$(BIN)/ritz bench

docs: .venv/ready-docs
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo "documentation: $(CURDIR)/docs/_build/html/index.html"

clean:
	rm -rf .venv runs docs/_build docs/api build dist .coverage* .hypothesis .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp newer than what it depends on means: the environment is right, go on at once.
.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/ready-tour: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) --editable '.[diffusers]'
	@touch $@

.venv/ready-test: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) --editable '.[test]'
	@touch $@

.venv/ready-docs: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) --editable '.[docs]'
	@touch $@

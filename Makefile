# Every path here is relative: make cannot keep a blank in a target's name, and the folder that
# holds the repository may well have one. For the same reason commands run as `python -m ...`.

PYTHON ?= python3.11
export PORT BROWSER
TESTS ?= tests workbench
PY := .venv/bin/python
# one thread: reproducible sums, and tests that do not fight each other for cores
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: help setup lab test check lint types unit test-ui demo bench clean
.DEFAULT_GOAL := help

help: ## this list
	@echo "make TARGET, where TARGET is one of"
	@sed -n 's/^\([a-z-]*\):[^#]*## /  \1\t/p' Makefile | expand -t 12

setup: ## the environment in .venv (returns at once when it is up to date)
	@for python in $(PYTHON) python3.11 python3 python3.12 python3.13; do \
	  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    exec $$python scripts/setup_env.py; \
	  fi; \
	done; \
	echo "make setup: found no Python 3.11; name one: make setup PYTHON=/where/python3.11" >&2; exit 1

lab: setup ## JupyterLab on the first notebook (PORT=9000, BROWSER=none)
	@exec $(PY) scripts/lab.py

test: setup check ## set up, then every check: lint, types, unit, golden, notebooks, browser

check: lint types unit ## every check, in the environment as it is

lint: ## ruff: rules and layout
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: ## mypy
	$(PY) -m mypy

# Two rounds: what computes takes all cores, a file each; what is timed by a person's patience has them alone.
# Exit code 5 of pytest: none of the chosen tests is of that kind.
unit: ## pytest, with everything that is marked; TESTS=tests/test_rttm.py for a part
	$(ONE_THREAD) $(PY) -m pytest $(TESTS) -m "not browser and not notebook" \
	  -n auto --dist loadfile --no-loadscope-reorder || [ $$? = 5 ]
	$(ONE_THREAD) $(PY) -m pytest $(TESTS) -m "browser or notebook" || [ $$? = 5 ]

test-ui: setup ## the browser tests alone
	$(ONE_THREAD) $(PY) -m pytest tests/browser

demo: setup ## every notebook, executed, as a page in reports/
	$(PY) -m workbench report --out reports

bench: setup ## every benchmark
	@for benchmark in benchmarks/*.py; do echo "== $$benchmark"; $(PY) "$$benchmark" || exit 1; done

clean: ## remove what was made, the environment included
	rm -rf .venv reports dist out workbench.egg-info .pytest_cache .mypy_cache .ruff_cache

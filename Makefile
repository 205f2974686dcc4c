# Every target works from a fresh clone: the virtual environment is made when it is missing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEV := $(VENV)/.dev
BASE := $(VENV)/.base

.PHONY: demo test check bench clean

demo: $(BASE)
	$(BIN)/kesit demo

# One thread a worker: pools of threads that outnumber the cores wait for each other. A third
# worker, for many tests wait for processes.
test: export OMP_NUM_THREADS = 1
test: export OPENBLAS_NUM_THREADS = 1
test: $(DEV)
	$(BIN)/pytest -n 3 --dist loadgroup

check: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/unit/test_imports.py

bench: $(DEV)
	$(BIN)/kesit bench

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache

$(BASE): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -e .
	touch $@

$(DEV): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -e ".[dev,neural,onnx,report,simulation]"
	touch $(BASE) $@

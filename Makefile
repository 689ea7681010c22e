# Everything runs in .venv, which is made on the first call; PYTHON is any Python from 3.12 on.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable

.PHONY: demo test check clean

demo: .venv/runs
	mkdir -p out
	$(BIN)/python examples/flip_a_photograph.py --out out/demo.png

test: .venv/tests
	$(BIN)/python -m pytest -q -n 2 --dist worksteal

check: .venv/tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

# The library alone; the demo needs no PyTorch.
.venv/runs: pyproject.toml
	$(PYTHON) -m venv .venv
	$(PIP) .
	touch $@

# With PyTorch (about 5 GB), against which the tests hold the port.
.venv/tests: .venv/runs
	$(PIP) '.[test]'
	touch $@

clean:
	rm -rf .venv out

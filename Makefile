# make demo   everything to run the main job on the embedded model: environment, model, one iteration
# make test   everything to run the checks: ruff, mypy, the tests
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
RUN ?= runs/demo
# The environment is whole when this stamp is newer than what it is made from.
STAMP := $(VENV)/.installed

.PHONY: demo test test-faults test-vllm bench lint types format environment model

demo: environment model
	$(BIN)/selfreward run configs/demo.yaml --run $(RUN)

test: environment model lint types
	$(BIN)/python -m pytest

lint: environment
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: environment
	$(BIN)/mypy

format: environment
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test-faults: environment
	$(BIN)/python -m pytest -m faults -s

model: environment
	$(BIN)/selfreward models pull smollm2-135m-instruct

environment: $(STAMP)

# torch first: its version is pinned so that pip takes a CPU build where one is offered.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt torch
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[dev]"
	touch $(STAMP)

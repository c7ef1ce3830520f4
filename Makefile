# Two commands do all the set-up: `make run` and `make test`.
PYTHON ?= python3
VENV := .venv
# isolated builds read their pins from the environment
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: run test lint format clean
run: $(VENV)/.installed
	$(VENV)/bin/phasetrack run xor --d 512

test: $(VENV)/.test
	$(VENV)/bin/python -m pytest

lint: $(VENV)/.lint
	$(VENV)/bin/ruff check phasetrack cli tests
	$(VENV)/bin/ruff format --check phasetrack cli tests
	$(VENV)/bin/mypy

format: $(VENV)/.lint
	$(VENV)/bin/ruff check --fix phasetrack cli tests
	$(VENV)/bin/ruff format phasetrack cli tests

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(VENV)/bin/pip install -q -e .
	touch $@

$(VENV)/.test: $(VENV)/.installed
	$(VENV)/bin/pip install -q -e '.[test]'
	touch $@

$(VENV)/.lint: $(VENV)/.installed
	$(VENV)/bin/pip install -q -e '.[lint]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info

# Two commands do all the set-up: `make run` and `make test`.
PYTHON ?= python3
VENV := .venv
# isolated builds read their pins from the environment
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_BUILD_CONSTRAINT := $(PIP_CONSTRAINT)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
CHECKED := phasetrack cli tests benchmarks docs
# rooms whose tests need no optional library
MINIMUM := $(addprefix tests/,storage phases display cli measures model tasks theory tracking)

.PHONY: help run test test-slow test-fast test-minimum test-pythons test-long test-claims fuzz bench pictures lint format hooks clean
help: ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

run: $(VENV)/.installed ## install, then run the canonical experiment
	$(VENV)/bin/phasetrack run xor --d 512

test: $(VENV)/.test ## install, then run the tests (five minutes on two cores)
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n auto --dist worksteal

test-slow: $(VENV)/.test ## the slow tests, and those that drive a browser (as long again)
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n auto --dist worksteal \
	  -m "(slow or browser) and not long and not claims"

test-fast: $(VENV)/.test ## the tests that need no browser and no further process (a minute or two)
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n auto --dist worksteal \
	  -m "not long and not claims and not slow and not browser and not process"

test-long: $(VENV)/.test ## whole experiments over seeds, and an install from a wheel
	$(VENV)/bin/python -m pytest -m long

test-claims: $(VENV)/.test ## the paper on trial at quick sizes, against what was seen before (minutes)
	$(VENV)/bin/python -m pytest -m claims

test-minimum: export PIP_CONSTRAINT := $(CURDIR)/constraints-minimum.txt
test-minimum: $(VENV)-minimum/.test ## the lowest versions that are declared, in an environment of their own (minutes)
	OMP_NUM_THREADS=1 $(VENV)-minimum/bin/python -m pytest -n auto -p no:cacheprovider \
	  -W ignore::DeprecationWarning -W ignore::PendingDeprecationWarning \
	  -m "not long and not claims and not slow and not browser and not process" $(MINIMUM)
	$(VENV)-minimum/bin/python -m pytest -p no:cacheprovider -m slow tests/faults/test_whole_systems.py

test-pythons: ## all that needs no torch, on every other Python that is found here (minutes)
	$(PYTHON) tests/pythons.py

fuzz: $(VENV)/.test ## every reader and option against what no run wrote (minutes; FUZZ_EXAMPLES=1000)
	FUZZ_EXAMPLES=$(or $(FUZZ_EXAMPLES),1000) OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest \
	  tests/faults -k "any_kind" -n auto --dist worksteal

bench: $(VENV)/.bench ## every benchmark (a quarter of an hour); tables, and JSON under build/benchmarks
	$(VENV)/bin/python benchmarks/all.py

pictures: $(VENV)/.test ## the README's pictures, from real runs in a real browser
	PYTHONPATH=benchmarks $(VENV)/bin/python docs/pictures.py

lint: $(VENV)/.lint ## linter, formatter, types, import contract, prose
	$(VENV)/bin/ruff check $(CHECKED)
	$(VENV)/bin/ruff format --check $(CHECKED)
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-cache
	$(VENV)/bin/python docs/prose.py

format: $(VENV)/.lint ## fix what linter and formatter can fix
	$(VENV)/bin/ruff check --fix $(CHECKED)
	$(VENV)/bin/ruff format $(CHECKED)

hooks: $(VENV)/.lint ## ruff before every commit; types and contracts before every push
	$(VENV)/bin/pre-commit install --hook-type pre-commit --hook-type pre-push

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "$(PYTHON) cannot make $(VENV); on Debian: apt-get install python3-venv" >&2; exit 1; }

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(VENV)/bin/pip install -q -e .
	touch $@

$(VENV)/.test: $(VENV)/.installed
	$(VENV)/bin/pip install -q -e '.[test]'
	touch $@

# old versions warn of what is to come in new ones, which is no fault of ours
$(VENV)-minimum/.test: pyproject.toml constraints-minimum.txt
	$(PYTHON) -m venv $(VENV)-minimum
	$(VENV)-minimum/bin/pip install -q -e '.[test-core]'
	touch $@

$(VENV)/.bench: $(VENV)/.installed
	$(VENV)/bin/pip install -q -e '.[bench]'
	touch $@

# the test extra too: types are checked against the real optional packages
$(VENV)/.lint: $(VENV)/.installed
	$(VENV)/bin/pip install -q -e '.[test,lint]'
	touch $@

clean: ## remove everything that these commands made, runs excepted
	rm -rf $(VENV) $(VENV)-minimum build dist *.egg-info

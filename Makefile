VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin
RUNS ?= runs

.PHONY: demo test test-slow check env env-dev

demo: env
	$(BIN)/kepton run examples/formaldehyde.toml --out $(RUNS)/formaldehyde
	$(BIN)/kepton md $(RUNS)/formaldehyde/model.kepton examples/formaldehyde.xyz \
	  --temperature-K 300 --steps 2000 --out $(RUNS)/formaldehyde/md.extxyz
	@echo "The report: $(RUNS)/formaldehyde/report.html"

test: env-dev check
	$(BIN)/pytest -n 2

test-slow: env-dev
	$(BIN)/pytest -m slow

check: env-dev
	$(BIN)/ruff format --check src tests bench
	$(BIN)/ruff check src tests bench
	PATH=$(abspath $(BIN)):$$PATH $(BIN)/pyright
	$(BIN)/lint-imports

env: $(VENV)/installed
env-dev: $(VENV)/installed-dev

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[xtb]"
	touch $@

$(VENV)/installed-dev: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[xtb,dispersion,dev]"
	touch $(VENV)/installed $@

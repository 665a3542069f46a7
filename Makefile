.PHONY: check demo kernels lint man quick suite test types
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# Runs a command in an environment without whatever would change what it does, such as PYTHONPATH or COLUMNS.
SCRUBBED = -I tests/support/environment.py

# Python compiles what it imports; pip would compile all that it installs. pip of Python 3.11 compares each file
# of an index with each platform in turn: together 20 of 45 seconds.
PIP_INSTALL = $(BIN)/python $(SCRUBBED) $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -I -c 'import sys; sys.exit(sys.version_info < (3, 11) and "charrnn needs Python 3.11 or later: make PYTHON=python3.12 ...")'
	$(PYTHON) $(SCRUBBED) $(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) --upgrade pip
	$(PIP_INSTALL) -e '.[dev]'
	@touch $@

# Learns place names and writes new ones: those that it has learned by heart are left out.
demo: $(VENV)/.installed
	@$(BIN)/python $(SCRUBBED) $(BIN)/charrnn train corpora/places.txt --lines --minutes 0.6 -o checkpoints/demo.safetensors --force
	@$(BIN)/python $(SCRUBBED) $(BIN)/charrnn sample -m checkpoints/demo.safetensors --count 40 | grep -vxFf corpora/places.txt | head -20

# The vectors of a page, for WebAssembly; `pip install ziglang` brings the compiler.
kernels:
	$(BIN)/python $(SCRUBBED) $(BIN)/python charrnn/pages/build_kernels.py

# The pages of the manual, from what --help says: a wheel brings them, so that `man charrnn-train` finds its page.
man: $(VENV)/.installed
	$(BIN)/python $(SCRUBBED) $(BIN)/python docs/make_man.py

check: lint types

lint: $(VENV)/.installed
	$(BIN)/python $(SCRUBBED) $(BIN)/ruff check .
	$(BIN)/python $(SCRUBBED) $(BIN)/ruff format --check .

types: $(VENV)/.installed
	$(BIN)/python $(SCRUBBED) $(BIN)/mypy

# Lint, types and the tests that start no process and compile nothing.
quick: check
	$(BIN)/python $(SCRUBBED) $(BIN)/python -m pytest -n auto --dist worksteal -m "not process and not compiled"

suite: $(VENV)/.installed
	$(BIN)/python $(SCRUBBED) $(BIN)/python -m pytest -n auto --dist worksteal

# The types are checked beside the tests, of which some leave a core idle.
test: lint
	@$(MAKE) --no-print-directory -j 2 types suite

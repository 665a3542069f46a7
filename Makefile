.PHONY: demo test
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "charrnn needs Python 3.11 or later: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

# Learns place names and writes new ones: those that it has learned by heart are left out.
demo: $(VENV)/.installed
	@$(BIN)/charrnn train corpora/places.txt --lines --minutes 0.6 -o checkpoints/demo.safetensors --force
	@$(BIN)/charrnn sample -m checkpoints/demo.safetensors --count 40 | grep -vxFf corpora/places.txt | head -20

test: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n auto --dist worksteal

PYTHON ?= python3
BIN := .venv/bin

.PHONY: install peers demo test test-slow bench slurm docs lint type format lock release clean

install: .venv/installed

.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "jvsc needs Python 3.11 or later; say which with PYTHON=")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@

# What benchmarks and some tests compare with.
peers: install
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable '.[bench]'

demo: install
	$(BIN)/python -m jvsc.main

# Compiling is most of the tests' work, and one process compiles on one core.
test: install
	$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile \
	  --no-loadscope-reorder

test-slow: install
	$(BIN)/python -m pytest -m slow

bench: peers
	$(BIN)/python -m benchmarks

# Installs Slurm, as root on Debian, and preempts a training on it.
slurm: install
	launch/slurm/try_here.sh

# The documentation, in site/.
docs: install
	$(BIN)/python docs/notebook_pages.py
	$(BIN)/zensical build --strict --clean

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo --no-cache

type: install
	$(BIN)/pyright

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The exact versions of everything, for every platform, without any index's address.
lock:
	$(BIN)/uv pip compile pyproject.toml --extra command --extra dev --extra docs --universal --quiet \
	  --no-emit-index-url --no-header --no-annotate --fork-strategy fewest --upgrade --output-file requirements.lock

# What would be uploaded, in dist/: built, the wheel from the source archive, and checked.
release: install
	rm -rf dist
	$(BIN)/uv build --quiet
	$(BIN)/uv tool run --quiet twine check --strict dist/*
	$(BIN)/python -m pytest -m slow tests/test_extras.py tests/test_versions.py
	@ls dist

clean:
	rm -rf .venv site

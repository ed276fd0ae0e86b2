VENV := .venv
OLDEST := .venv-oldest
PYTHON ?= python3
DATA ?= ../shared/data
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/pip --quiet --disable-pip-version-check

.PHONY: install servers demo demo-real demo-unpaired explore test test-guards test-slow test-slurm test-oldest lint lock bench bench-environments clean

install: $(READY)

$(READY): setup.py
	@echo "Installing rnagan, and what it needs, into $(VENV): several GB, which takes minutes."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --upgrade pip
	@$(PIP) install --editable '.[dev]'
	@touch $@

demo: install
	@$(BIN)/rnagan demo

demo-real: install
	@$(BIN)/rnagan demo --data $(DATA)

demo-unpaired: install
	@$(BIN)/rnagan demo --data $(DATA) --unpaired

explore: install  # the demo's model in the browser, after `make demo`
	@$(BIN)/rnagan explore --demo

servers:  # a browser and a database server for tests of the applications, where they can be installed
	@tests/apps/servers.sh install

test: install  # a worker a core, of one thread: threads that wait for one another would spin
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal -m "not slow and not slurm"

test-guards: install  # the slow tests that .ci/run runs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal -m guard

test-slow: install
	$(BIN)/python -m pytest -m slow

test-slurm: install
	tests/slurm/cluster.sh run /tmp/rnagan-slurm $(BIN)/python -m pytest -m slurm tests/slurm

test-oldest: install  # the fast tests on the lowest versions that setup.py allows
	$(BIN)/uv venv --quiet --allow-existing --python 3.11 $(OLDEST)
	$(BIN)/uv pip install --quiet --python $(OLDEST) --resolution lowest-direct --editable '.[dev]'
	OMP_NUM_THREADS=1 $(OLDEST)/bin/python -m pytest -n auto --dist worksteal -m "not slow and not slurm"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lock: install  # this environment's versions, with what other platforms need in their place
	$(BIN)/uv pip freeze --python $(VENV) --exclude-editable >$(VENV)/frozen.txt
	$(BIN)/uv pip compile setup.py --extra s3 --universal --python-version 3.11 --constraints $(VENV)/frozen.txt \
	    --generate-hashes --no-annotate --custom-compile-command 'make lock' --quiet --output-file requirements.lock

bench: install
	$(BIN)/python benchmarks/gan_step.py
	$(BIN)/python benchmarks/housekeeping.py
	$(BIN)/python benchmarks/vae.py
	$(BIN)/python benchmarks/fid.py --data $(DATA)
	$(BIN)/python benchmarks/tiling.py --data $(DATA)
	$(BIN)/python benchmarks/loader.py --data $(DATA)
	$(BIN)/python benchmarks/realism.py --data $(DATA)
	$(BIN)/python benchmarks/real_pairs.py --data $(DATA)
	$(BIN)/python benchmarks/across_cohorts.py --data $(DATA)
	$(BIN)/python benchmarks/reader_study.py
	$(BIN)/python benchmarks/attacks.py

bench-environments: install  # of what ours is compared with; `bench` makes what is missing
	$(BIN)/python benchmarks/gan_step.py --environments-only
	$(BIN)/python benchmarks/fid.py --environments-only
	$(BIN)/python benchmarks/tiling.py --environments-only
	$(BIN)/python benchmarks/loader.py --environments-only

clean:
	rm -rf $(VENV) $(OLDEST) runs/demo runs/demo-* shards/data/demo shards/data/demo-*
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

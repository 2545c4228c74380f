# On a fresh machine with Python, make and git:
#   make study   sets everything up and runs a search over mnist_mlp on MNIST
#   make test    sets everything up and runs the fast tests
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

# Concurrent tests have more threads than cores: waiting threads must not spin. Most of what they wait for is a disk that
# confirms each write of a database: where there is room, they write to memory. None of them needs to survive a power cut.
ROOM := $(shell [ "$$(df -k --output=avail /dev/shm 2>/dev/null | tail -n 1)" -gt 8000000 ] 2>/dev/null && echo TMPDIR=/dev/shm)
CALMLY := OMP_WAIT_POLICY=passive $(ROOM)

.PHONY: study test test-plain test-newest test-slow mutants ui chaos storm results bench lint install

study: install
	$(BIN)/harness study mnist_mlp --trials 8 --workers 2
	@command -v harness >/dev/null || echo "       here, as harness is not on your PATH: $(BIN)/harness ui"

test: install
	$(CALMLY) $(BIN)/python -m pytest -q -m "not slow" -n 2 --dist worksteal

# The same without acceleration: in a copy without that folder. What cannot reach it, that is all
# packages that reach neither driver/ nor executors/ (tests/test_imports.py), is not tested a second time.
NOT_AGAIN := common config console datamodules lightning_modules plots protocol reports search statistics tracking
test-plain: install
	rm -rf .plain && mkdir .plain
	git ls-files -z --cached --others --exclude-standard | tar --null --files-from=- --create | tar -x -C .plain
	rm -r .plain/studies/acceleration .plain/tests/acceleration
	cd .plain && $(CALMLY) PYTHONPATH=$$PWD ../$(BIN)/python -m pytest -q -m "not slow" -n 2 --dist worksteal \
		$(NOT_AGAIN:%=--ignore=tests/%)
	rm -r .plain

# The fast tests with the newest releases of all libraries, in a separate environment; not in CI.
test-newest: install
	rm -rf .newest && $(PYTHON) -m venv .newest
	sed -E 's/(torch|torchvision|pytorch-lightning|mlflow|optuna|matplotlib)(>=[0-9.]+),<[0-9.]+/\1\2/' pyproject.toml > .newest/pyproject.toml
	$(BIN)/uv pip install --quiet --python .newest/bin/python --requirements .newest/pyproject.toml --extra dev
	-$(BIN)/uv pip install --quiet --python .newest/bin/python --no-deps --editable .
	$(CALMLY) .newest/bin/python -m pytest -q -m "not slow" -n 2 --dist worksteal

test-slow: install
	$(CALMLY) $(BIN)/python -m pytest -q -m slow -n 2 --dist worksteal

ui: install
	$(BIN)/harness ui

storm: chaos

chaos: install
	$(CALMLY) $(BIN)/python tests/e2e/chaos.py --jobs 2

results: install
	$(BIN)/python benchmarks/results.py

bench: install
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable ".[dev,bench]" $(PINNED)
	$(BIN)/python benchmarks/bench.py $(if $(ONLY),--only $(ONLY)) $(if $(PAIRS),--pairs $(PAIRS))

# Plants faults in the code that trials and studies rest on, and counts those that the fast tests find: most of an hour.
mutants: install
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable ".[dev,mutants]" $(PINNED)
	$(CALMLY) $(BIN)/python tests/mutants.py $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only $(ONLY))

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy studies

install: $(INSTALLED)

# uv checks the hashes of all packages in constraints.txt, and of what builds this one.
PINNED := --constraint constraints.txt --build-constraint constraints.txt

$(INSTALLED): pyproject.toml constraints.txt .ci/uv.txt
	@echo "installing into .venv: about 6 GB, mostly PyTorch; about a minute on a fast connection"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement .ci/uv.txt
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --editable ".[dev]" $(PINNED)
	touch $@

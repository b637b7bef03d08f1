# make demo   everything to run the main job on the embedded model: environment, model, one iteration
# make control   the control experiment: does the loop learn what a program can check? (docs/control.md)
# make test   everything to run the checks: ruff, mypy, the tests
# make test-vllm   the tests with vLLM (for the CPU), a real server and Ray, in an environment of their own
# make test-peers   the tests with the tools that read our files (trainers, evaluators), in an environment of their own
# make test-view   the pages of `selfreward view` and the report in a real browser (needs Chromium)
# make screenshots   the pictures of README and docs, taken anew
# make dist   wheel and sdist, built, checked and tried outside the clone
# make docs   the pages of docs/ as a site in build/docs, every warning and broken link an error
# make docs-settings   write docs/settings.md anew from the configuration's classes
# make test-lowest, make test-newest   the fast tests with the oldest and the newest allowed versions
# make bench-engines   what the engines cost, in ratios
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
RUN ?= runs/demo
# The environment is whole when this stamp is newer than what it is made from.
STAMP := $(VENV)/.installed
VLLM_VENV ?= .venv-vllm
VLLM_BIN := $(VLLM_VENV)/bin
VLLM_STAMP := $(VLLM_VENV)/.installed
PEERS_VENV ?= .venv-peers
PEERS_BIN := $(PEERS_VENV)/bin
PEERS_STAMP := $(PEERS_VENV)/.installed
DOCS_VENV ?= .venv-docs
DOCS_STAMP := $(DOCS_VENV)/.installed
# Two processes share the test files. Each has one thread for torch: two each would wait for one another on two cores.
IN_TWO := -n 2 --dist loadfile
test test-view test-vllm test-peers test-lowest test-newest: export OMP_NUM_THREADS = 1

.PHONY: demo control dist docs docs-settings screenshots test test-faults test-view test-vllm test-peers test-lowest test-newest bench-engines lint types format environment environment-vllm environment-peers environment-docs model

demo: environment model
	$(BIN)/selfreward run configs/demo.yaml --run $(RUN)

control: environment model
	$(BIN)/selfreward run configs/control.yaml

test: environment model lint types
	$(BIN)/python -m pytest $(IN_TWO)

lint: environment
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: environment
	$(BIN)/mypy

format: environment
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

dist: environment
	PYTHON=$(BIN)/python .ci/dist

docs: environment-docs
	$(DOCS_VENV)/bin/sphinx-build -W --keep-going -n -q -b html docs build/docs

docs-settings: environment
	$(BIN)/python docs/make_settings.py > docs/settings.md

# The program is looked for here, before anything starts, so that a machine without one says what to install.
CHROMIUM := $(or $(SELFREWARD_BROWSER),$(shell command -v chromium || command -v chromium-browser || command -v google-chrome))
test-view screenshots: export SELFREWARD_BROWSER = $(CHROMIUM)
test-view screenshots: environment
	@[ -n "$(CHROMIUM)" ] || { echo "$@: no Chromium; install it (Debian: apt-get install chromium) or name it in SELFREWARD_BROWSER" >&2; exit 1; }
	$(BIN)/python $(if $(filter screenshots,$@),docs/make_pictures.py $(RUN),-m pytest -m browser tests/view)

test-faults: environment
	$(BIN)/python -m pytest -m faults -s

# The oldest versions that pyproject.toml allows and the newest ones, each in an environment of its own, with the tests that
# need no model. docs/reliability.md says what was seen.
UV := .venv-uv/bin/uv
FAST_TESTS := tests/store tests/reading tests/sql tests/builders tests/selfreward/test_formats.py tests/selfreward/test_pipeline.py
test-lowest: RESOLUTION := lowest-direct
test-newest: RESOLUTION := highest
test-lowest test-newest: $(UV)
	$(UV) pip compile -q --no-header --only-binary :all: --python-version 3.11 --resolution $(RESOLUTION) pyproject.toml -o .venv-$@.txt
	$(UV) venv -q --clear -p $(PYTHON) .venv-$@
	$(UV) pip install -q -p .venv-$@ -r .venv-$@.txt pytest hypothesis tensorboard
	$(UV) pip install -q -p .venv-$@ --no-deps -e .
	.venv-$@/bin/python -m pytest $(FAST_TESTS)

# uv, since pip cannot resolve to the oldest versions.
$(UV):
	$(PYTHON) -m venv .venv-uv
	.venv-uv/bin/python -m pip install -q uv

test-vllm: environment-vllm
	$(VLLM_BIN)/python -m pytest $(IN_TWO) -m vllm $(shell grep -rl "pytest\.mark\.vllm" tests --include='*.py')

test-peers: environment-peers
	$(PEERS_BIN)/python -m pytest $(IN_TWO) -m peers tests/peers

bench-engines: environment-vllm
	$(VLLM_BIN)/python benchmarks/engines.py

model: environment
	$(BIN)/selfreward models pull smollm2-135m-instruct

environment: $(STAMP)

# torch first: its version is pinned so that pip takes a CPU build where one is offered.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt torch
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[dev]"
	touch $(STAMP)

environment-docs: $(DOCS_STAMP)

$(DOCS_STAMP): docs/requirements.txt
	$(PYTHON) -m venv $(DOCS_VENV)
	$(DOCS_VENV)/bin/python -m pip install -q -r docs/requirements.txt
	touch $(DOCS_STAMP)

environment-vllm: $(VLLM_STAMP)

$(VLLM_STAMP): pyproject.toml requirements-vllm.txt
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_BIN)/python -m pip install -q -c requirements-vllm.txt torch
	$(VLLM_BIN)/python -m pip install -q --no-deps -r requirements-vllm.txt
	$(VLLM_BIN)/python -m pip install -q --no-deps -e .
	touch $(VLLM_STAMP)

environment-peers: environment $(PEERS_STAMP)

# Installed before the project's environment is shown to it: pip would take the packages there for its own.
$(PEERS_STAMP): $(STAMP) requirements-peers.txt
	$(PYTHON) -m venv --clear --without-pip $(PEERS_VENV)
	$(BIN)/python -m pip --python $(PEERS_BIN)/python install -q --no-deps -r requirements-peers.txt
	echo "import site; site.addsitedir('$$($(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")')" \
		> $$($(PEERS_BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/environment.pth
	touch $(PEERS_STAMP)

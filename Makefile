# Two commands for a stranger: `make demo` and `make test`. Both set everything up by themselves.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test check audit docs bench chaos dist lock clean

help: ## Show the commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1	/'

$(STAMP): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=…" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(STAMP) ## A school year on a real Kafka: from class list to audit
	$(BIN)/broker demo

# Tests that run beside each other, each with a Kafka of its own: half a gigabyte each.
TEST_PROCESSES ?= 4

# Ten thousand schedules take all cores: beside other tests each would only take the other's time.
# A hundred starts of Kafka are faster once one is recorded.
test: $(STAMP) ## All tests
	$(BIN)/broker kafka warm || echo "The tests go on without it." >&2
	$(BIN)/python -m pytest tests/simulation
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder --ignore tests/simulation

check: $(STAMP) ## Lint, types, generated docs and schemas
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python scripts/generate.py --check

audit: $(STAMP) ## Known vulnerabilities in what is locked, where the advisory service can be reached
	$(BIN)/python scripts/audit_dependencies.py

docs: $(STAMP) ## Write generated docs and output schemas anew
	$(BIN)/python scripts/generate.py

bench: $(STAMP) ## Figures; raw JSON in build/bench/
	$(BIN)/python -m bench

SECONDS ?= 600
BROKERS ?= 1
chaos: $(STAMP) ## Faults on a real Kafka, judged by a checker of its own; SECONDS=60, BROKERS=3; history in build/chaos/
	$(BIN)/python -m chaos run --seconds $(SECONDS) --brokers $(BROKERS)

dist: $(STAMP) ## Wheel, sdist, bill of materials (CycloneDX) and SHA256SUMS of the last commit, in dist/
	$(BIN)/python scripts/dist.py

lock: ## Pin all requirements with hashes (maintainers; needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --all-extras -o requirements/dev.txt pyproject.toml
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --extra embedded -o requirements/embedded.txt pyproject.toml

clean: ## Remove what was built, the demo's state included
	rm -rf build dist $(VENV)

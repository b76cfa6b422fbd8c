# The verbs of a contributor; .ci/run uses the same ones.
SHELL  := /bin/bash
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# after it each test file was compiled once; else each process that runs tests would compile all of them
COMPILED := $(VENV)/.compiled
# a demo needs what a user needs; where setup has been, that is there already
DEMO   := $(if $(wildcard $(READY)),$(VENV),build/demo)
# with compiled files, whatever the environment says: each process would compile everything again
KAFKA  := $(CURDIR)/.cache/kafka
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest
SPREAD := -n $(or $(WORKERS),10) --dist worksteal $(if $(COST),--cost $(COST))

# setuptools warns of each editable install, which pip prints since 26
QUIET  := PYTHONWARNINGS="ignore:Editable installation"

.PHONY: setup accelerator fuzz-accelerator demo test test-slow check docs reference deploy-check rehearse-image kafka models sdk-check constraints bench bench-cluster simulate soak soak-cluster fuzz clean
.DEFAULT_GOAL := help

help:              ## this list
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort

setup: $(READY)    ## a virtual environment with everything in it
$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(QUIET) $(BIN)/python -m pip install --quiet --editable ".[dev]"
	@touch $@

accelerator: $(READY) ## build the optional compiled accelerator with cargo, and install it
	$(BIN)/python -m pip install --quiet --force-reinstall --no-deps ./ingestd/accelerator

demo: $(DEMO)/.ready ## replay a sample into the sandbox, with faults, and print the ledger
	@$(DEMO)/bin/ingestd demo
build/demo/.ready: pyproject.toml
	@echo "an environment in build/demo, with what ingestd needs (about 100 MB; a minute on a slow machine)"
	@$(PYTHON) -m venv build/demo
	@set -o pipefail; $(QUIET) build/demo/bin/python -m pip install --disable-pip-version-check --no-compile \
	    --editable . | sed -un 's/^Collecting \([A-Za-z0-9_.-]*\).*/  + \1/p; s/^Installing.*/  installing/p'
	@touch $@

test: $(COMPILED)  ## the test suite, WORKERS=10 processes; COST=0.25 prints the tests that took as many seconds of CPU
	$(PYTEST) -m "not slow" $(SPREAD)

test-slow: $(COMPILED) ## what takes long: more kills, more rounds, more examples of each property, all of the console in a browser
	$(PYTEST) -m slow $(SPREAD)
	HYPOTHESIS_PROFILE=slow $(PYTEST) -m "hypothesis and not slow" $(SPREAD)

$(COMPILED): $(READY)
	@printf '%s\n' tests/[a-z]*/ | xargs -P 2 -n 3 env $(PYTEST) --collect-only -qq >/dev/null 2>&1; touch $@

check: $(READY)    ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.docs ## the documentation site, with search, in build/site
	$(BIN)/zensical build --clean --strict
$(VENV)/.docs: $(READY)
	$(QUIET) $(BIN)/python -m pip install --quiet --editable ".[docs]"
	@touch $@

reference: $(READY) ## write docs/reference/ and the schema of a new state file again, from the code
	$(BIN)/python -m tests.docs.reference
	$(BIN)/python -m tests.integration.store.newest_schema

deploy-check: $(READY) ## lint and test deploy/; alerts need promtool (Debian: prometheus)
	$(PYTEST) -rs tests/process/deploy

kafka: $(READY)    ## a Kafka broker (Maven, Java 17) in .cache/kafka, and the tests that read from it
	$(BIN)/python -m tests.kafka_server $(KAFKA)
	KAFKA_LIB=$(KAFKA) $(PYTEST) -n 4 --dist worksteal -rs tests/process/sources/kafka

rehearse-image: build/debian ## every step of the Dockerfile, in roots of debootstrap instead of an engine; as root
	$(PYTHON) -m tests.process.deploy.rehearse build/debian
build/debian:
	@mkdir -p build
	debootstrap --variant=minbase --include=python3,python3-venv,python3-pip,ca-certificates \
	    trixie $@.new http://deb.debian.org/debian
	@mv $@.new $@

models: $(READY)   ## read what the models of Genesys Cloud require again, from its public SDKs (pip, npm)
	$(BIN)/python -m tests.sdk.read_models

sdk-check: $(READY) ## Genesys Cloud's own Python and JavaScript SDKs against the sandbox (pip, npm)
	$(BIN)/python -m tests.sdk.check

constraints: $(READY) ## pin what the container installs to what this environment has
	$(BIN)/python deploy/pin.py > deploy/constraints.new && mv deploy/constraints.new deploy/constraints.txt

bench: $(READY)    ## throughput, memory and refusals, against a naive script in the same run
	$(BIN)/python -m benchmarks.run
	$(BIN)/python -m benchmarks.requests
	$(BIN)/python -m benchmarks.filters

bench-cluster: $(READY) ## edges, workers and a broker against one process, and sources at brokers: ROUNDS=5
	$(if $(wildcard $(KAFKA)),KAFKA_LIB=$(KAFKA)) $(BIN)/python -m benchmarks.cluster --rounds $(or $(ROUNDS),5)

simulate: $(READY) ## the whole pipeline on virtual time, from seeds, crashed at any moment: SEEDS=10000, or SEED=n
	$(BIN)/python -m ingestd.simulation --seeds $(or $(SEEDS),10000) --first $(or $(FIRST),0) $(if $(SEED),--seed $(SEED))

soak: $(READY)     ## kill -9 and faults, then a judgement: SECONDS=300, or ROUNDS, with LIVES=8; SEED, ONLY
	$(if $(wildcard $(KAFKA)),KAFKA_LIB=$(KAFKA)) $(BIN)/python -m tests.process.soak --seconds $(or $(SECONDS),300) --rounds $(or $(ROUNDS),0) --lives $(or $(LIVES),8) \
	    --only "$(ONLY)" $(if $(SEED),--seed $(SEED))

soak-cluster: $(READY) ## the same of edges and workers on NATS servers, which are killed and lose power: SECONDS=300 or RUNS, KINDS, SEED
	$(BIN)/python -m tests.process.cluster --seconds $(or $(SECONDS),300) $(if $(RUNS),--runs $(RUNS)) $(if $(KINDS),--kinds $(KINDS)) $(if $(SEED),--seed $(SEED))

fuzz: $(READY)     ## properties with many more examples, random crashes with many more lives; SEED runs one again
	HYPOTHESIS_PROFILE=fuzz $(PYTEST) -n 2 --dist worksteal --timeout 3600 tests/unit tests/contract tests/integration tests/process

# Coverage counters as libFuzzer reads them; stable compilers have them as passes of LLVM.
COUNTERS := -Cpasses=sancov-module $(addprefix -Cllvm-args=-sanitizer-coverage-,level=4 inline-8bit-counters pc-table trace-compares)
FUZZING  := build/fuzz-accelerator

fuzz-accelerator: $(READY) ## the accelerator against the definition of an event, guided by coverage: SECONDS=600
	$(BIN)/python -m pip install --quiet --target $(FUZZING)/site --upgrade atheris
	RUSTFLAGS="$(COUNTERS)" CARGO_TARGET_DIR=$(FUZZING)/target CARGO_BUILD_TARGET=$$(rustc -vV | sed -n 's/host: //p') \
	    $(BIN)/python -m pip install --quiet --target $(FUZZING)/site --upgrade --no-deps --no-cache-dir ./ingestd/accelerator
	LD_PRELOAD=$(FUZZING)/site/ubsan_with_fuzzer.so PYTHONPATH=$(FUZZING)/site:. \
	    $(BIN)/python -m tests.fuzz_accelerator $(FUZZING)/corpus -max_total_time=$(or $(SECONDS),600) -print_final_stats=1

clean:             ## remove what setup made
	rm -rf $(VENV) build ingestd-demo .cache *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

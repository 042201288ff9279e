# Everything from nothing: `make demo`, `make test`. The rest is for people who change the code.
#
# PYTHON       an interpreter of 3.11 or newer
# TORCH_INDEX  an index that holds a CPU build of torch: without it, pip on Linux may choose a build with CUDA
# ROUNDS, BASE settings of the demo
# FUZZ_S       seconds of `make fuzz`

PYTHON ?= $(shell command -v python3.11 || command -v python3)
TORCH_INDEX ?=
TORCH = torch==2.13.0
ROUNDS ?= 3
BASE ?= mimo-smol
FUZZ_S ?= 60

VENV = .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready

export OMP_NUM_THREADS ?= 1
export HF_HUB_OFFLINE = 1

.PHONY: demo test check fmt bench vectors fuzz coverage mutants cluster lock install clean

demo: $(READY)
	$(BIN)/mimo-fed demo --rounds $(ROUNDS) --base $(BASE)

test: $(READY)
	$(BIN)/python -m pytest -m "not cluster" -n 2 --dist loadfile --no-loadscope-reorder

check: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: $(READY)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(READY)
	$(BIN)/python -m pytest tests/bench/bench_*.py --benchmark-min-rounds=3
	$(BIN)/mimo-fed bench secagg

# Writes the test vectors anew and checks them with the verifier that shares no code with the package.
vectors: $(READY)
	$(BIN)/python -m tests.vectors.make_secagg
	$(BIN)/python tests/vectors/verify_secagg.py
	git diff --exit-code -- tests/vectors

# Every decoder, fed with mutated messages for FUZZ_S seconds: nothing but PeerProtocolError may come out.
fuzz: $(READY)
	$(BIN)/python -m tests.fuzz.decoders --seconds $(FUZZ_S)

# Branches of the aggregation protocol that no test takes: there are none.
coverage: $(READY)
	$(BIN)/python -m pytest -q -n 2 tests/unit/secagg tests/property tests/adversary \
	  --cov=mimo_fed.secagg --cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=100

# Which changes to the checks of peers' messages no test notices; docs/log.md judges those that are left.
mutants: $(READY)
	$(BIN)/uv pip install --quiet --python $(BIN)/python mutmut==3.8.1
	$(BIN)/mutmut run --max-children 2
	$(BIN)/mutmut results

cluster: $(READY)
	$(BIN)/python -m pytest -m cluster --timeout=1800

install: $(READY)

# pip brings torch, by exact version and before anything that would choose one; uv brings the rest from the lock
# in seconds. Nothing is resolved here, so nothing can backtrack or change under us.
$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pip==26.3 uv==0.12.24
	$(BIN)/python -m pip install --quiet -c requirements.lock $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	$(BIN)/python -m mimo_fed.secagg.backends
	touch $(READY)

# Exact versions of everything but torch, for Python 3.11 and later; no index and no hash of a host in it.
# What is locked stays as it is: `make UPGRADE=--upgrade lock` takes the newest of everything.
lock: $(READY)
	printf 'torch\nllm\nllama-cpp-python\npylons\nsqlobject\ngenshi\npygooglechart\n' > $(VENV)/excludes.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --no-annotate --no-header \
	  --excludes $(VENV)/excludes.txt $(UPGRADE) -o requirements.lock pyproject.toml requirements.in

clean:
	rm -rf $(VENV) runs .mypy_cache .ruff_cache .pytest_cache

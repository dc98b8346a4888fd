# Every target is a valid first command on a clean clone: it makes what it needs, in .venv and in place.

PYTHON ?= python3
# Handed on to what a target runs, as in: make test ARGS="-k waker -x"
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
INSTALLED_BENCH := $(VENV)/.installed-bench
INSTALLED_DIST := $(VENV)/.installed-dist
INSTALLED_PLATFORMS := $(VENV)/.installed-platforms
JOBS := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)

# What is compiled in place is used in place.
export PYTHONPATH := $(CURDIR)/src

.PHONY: help
help: ## show this
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

.PHONY: demo
demo: build ## start the echo server, load it over TCP, UDP and Unix, verify every byte
	$(BIN)/python demo/demo.py $(ARGS)

.PHONY: load
load: build ## the same with 5,000 connections at once
	$(BIN)/python demo/demo.py --load 5000 $(ARGS)

.PHONY: test
test: build ## run the tests
	$(BIN)/python -m pytest $(ARGS)

.PHONY: asyncio
asyncio: build ## run all of CPython's tests of asyncio on MetalSelector
	METALIO_ASYNCIO=all $(BIN)/python -m pytest tests/test_asyncio_cpython.py $(ARGS)

.PHONY: lint
lint: build ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest metalio --mypy-config-file mypy.ini --allowlist stubtest-allowlist.txt

.PHONY: format
format: build ## bring the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: bench
bench: build $(INSTALLED_BENCH) ## measure metalio beside its peers
	$(BIN)/python -m metalio bench $(ARGS)

.PHONY: sanitize
sanitize: build ## run the tests under AddressSanitizer and UndefinedBehaviorSanitizer
	tools/sanitize $(ARGS)

.PHONY: test-windows
test-windows: build ## run the tests on Windows: CPython for Windows under Wine, metalio cross-compiled
	tools/windows $(ARGS)

.PHONY: test-kqueue
test-kqueue: build ## run the tests over a kqueue that is emulated on Linux
	PYTHON=$(abspath $(BIN))/python tools/test-kqueue $(ARGS)

.PHONY: test-fallback
test-fallback: $(INSTALLED) ## run the tests as on a Unix of which nothing is known: poll(2) and a pipe
	PYTHON=$(abspath $(BIN))/python tools/test-fallback $(ARGS)

.PHONY: dist
dist: $(INSTALLED_DIST) ## build the sdist and the wheel, in dist
	$(BIN)/python tools/dist $(ARGS)

.PHONY: test-dist
test-dist: $(INSTALLED_DIST) ## build them, install each into an empty environment, run the tests there
	PYTHON=$(abspath $(BIN))/python tools/test-dist $(ARGS)

.PHONY: check-platforms
check-platforms: build $(INSTALLED_PLATFORMS) ## compile for macOS, the BSDs, Windows and other Linuxes
	$(BIN)/python tools/check-platforms $(ARGS)

.PHONY: build
build: $(INSTALLED) ## compile what has changed, in place
	@mkdir -p build
	@ls build/lib* >/dev/null 2>&1 || echo "compiling metalio: the first time takes a minute"
	@$(BIN)/python setup.py -q build_ext --inplace -j$(JOBS) >build/log 2>&1 || { cat build/log >&2; exit 1; }

.PHONY: clean
clean: ## remove what was built (but not .venv)
	rm -rf build dist *.egg-info src/*.egg-info .hypothesis .pytest_cache .ruff_cache .mypy_cache
	find src \( -name '*.so' -o -name '*.html' \) -delete
	find src -name '*.c' -not -path '*/native/*' -delete
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# The requirements to build, and those of some extras, out of pyproject.toml.
define REQUIREMENTS
import sys, tomllib
project = tomllib.load(open("pyproject.toml", "rb"))
extras = project["project"]["optional-dependencies"]
print(*project["build-system"]["requires"], *(line for name in sys.argv[1:] for line in extras[name]), sep="\n")
endef
export REQUIREMENTS

$(INSTALLED): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) cannot make a virtual environment; on Debian: apt install python3-venv" >&2; exit 1; }
	@$(BIN)/python -c "$$REQUIREMENTS" test lint >$(VENV)/requirements.txt
	$(BIN)/python -m pip install --quiet --requirement $(VENV)/requirements.txt
	@touch $@

$(INSTALLED_DIST): $(INSTALLED)
	@$(BIN)/python -c "$$REQUIREMENTS" dist >$(VENV)/requirements-dist.txt
	$(BIN)/python -m pip install --quiet --requirement $(VENV)/requirements-dist.txt
	@touch $@

$(INSTALLED_PLATFORMS): $(INSTALLED)
	@$(BIN)/python -c "$$REQUIREMENTS" platforms >$(VENV)/requirements-platforms.txt
	$(BIN)/python -m pip install --quiet --requirement $(VENV)/requirements-platforms.txt
	@touch $@

$(INSTALLED_BENCH): $(INSTALLED)
	@$(BIN)/python -c "$$REQUIREMENTS" bench >$(VENV)/requirements-bench.txt
	$(BIN)/python -m pip install --quiet --requirement $(VENV)/requirements-bench.txt
	@touch $@

# `make help` lists the targets. Everything is made in $(VENV) and build/; nothing is installed elsewhere.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV ?= .venv
PYTHON ?= python3
SAM2S_ROS_DISTRO ?= jazzy
CHECKPOINT ?=
OUTPUT ?=
ARGS ?=

# make splits paths at white space, and the scripts of an environment begin with the path of their Python.
ifneq ($(words [$(CURDIR)][$(VENV)]),1)
  $(error the path '$(CURDIR)', or VENV, '$(VENV)', has white space in it: move the checkout to a path without)
endif

# A start-up hook of the ROS wheels sets this once for its own environment; from another one it would mislead ours.
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE

BIN := $(VENV)/bin
PIP = $(BIN)/pip install --quiet --disable-pip-version-check
PREFIX := $(abspath $(VENV))
RUN := env PATH="$(PREFIX)/bin:$$PATH"
NUMPY_OF_ROS := $(VENV)/numpy-of-ros.txt

# A ROS distribution is sourced when AMENT_PREFIX_PATH leads to ament_cmake (setup.py decides alike): then it is used,
# otherwise ROS comes from PyPI.
SOURCED := $(firstword $(wildcard $(addsuffix /share/ament_cmake,$(subst :, ,$(AMENT_PREFIX_PATH)))))
ifneq ($(SOURCED),)
  ROS := sourced-$(or $(ROS_DISTRO),distribution)
  ROS_SHOWN := the sourced ROS distribution $(ROS_DISTRO)
  VENV_OPTIONS := --system-site-packages
  ROS_OPTIONS := -c $(NUMPY_OF_ROS)
  CMAKE_PREFIXES := $(subst :,;,$(AMENT_PREFIX_PATH))
  # What sourcing a workspace would do for the package in $(VENV).
  RUN := $(RUN) AMENT_PREFIX_PATH=$(PREFIX):$(AMENT_PREFIX_PATH) LD_LIBRARY_PATH=$(PREFIX)/lib:$(LD_LIBRARY_PATH)
else
  ifeq ($(wildcard requirements/ros-$(SAM2S_ROS_DISTRO)-build.txt),)
    $(error SAM2S_ROS_DISTRO is '$(SAM2S_ROS_DISTRO)': expected jazzy or kilted)
  endif
  ROS := $(SAM2S_ROS_DISTRO)
  ROS_SHOWN := ROS 2 $(SAM2S_ROS_DISTRO) from PyPI
  VENV_OPTIONS :=
  ROS_OPTIONS := -r requirements/ros-$(SAM2S_ROS_DISTRO)-build.txt
  CMAKE_PREFIXES := $(PREFIX)
endif
# Not `python -m pytest`: it would test the sources in this folder instead of what is installed. Not bin/pytest: the
# one of a ROS distribution has no script in $(VENV).
PYTEST := $(BIN)/python scripts/run_tests.py
TEST_THREADS := OMP_NUM_THREADS=$(or $(OMP_NUM_THREADS),1)
READY := $(VENV)/ready-$(ROS)
# Tests and lint bring 2 GB more (triton for CUDA's kernels, other implementations to compare with): not for who only tracks.
CHECKED := $(VENV)/checks-$(ROS)
BUILD := build/make-$(ROS)

.PHONY: help setup build lint test test-full demo docs wheel release benchmarks clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo '  PYTHON=python3.12          the Python that the environment is made with'
	@echo '  SAM2S_ROS_DISTRO=kilted    the ROS 2 that is taken from PyPI where none is sourced (jazzy, kilted)'
	@echo '  CHECKPOINT=path OUTPUT=folder ARGS="..."    for make demo; ARGS also for make test (pytest)'

setup: $(READY) $(CHECKED)  ## make .venv with all dependencies; does nothing when they are there
	@:

build: $(READY) $(BUILD)/build.ninja  ## generate and compile the interfaces, install into .venv
	@$(RUN) cmake --build $(BUILD) --target install > $(BUILD)/build.log 2>&1 \
	  || { tail -n 40 $(BUILD)/build.log; echo 'make: the build failed, see $(BUILD)/build.log' >&2; exit 1; }
	@echo 'built: $(BIN)/sam2s'

lint: $(CHECKED)  ## check format, imports, style and types
	@$(BIN)/ruff format --check && $(BIN)/ruff check && $(BIN)/mypy

# One thread for torch: more of them wait for one another actively, and on a busy machine small tensors took 15 times as long.
# Real graphs come last, three at a time in domains of their own: they wait more than they compute, but do things within
# seconds. With them what torch.export and torch.compile read, which is the bytecode that measuring changes.
# 2: interrupted, or nothing could be collected.
APART := test/ros test/sam2s_model/acceleration/test_compiling.py test/sam2s_model/acceleration/test_exporting.py
test: $(CHECKED) build  ## run all tests, or ARGS
ifeq ($(strip $(ARGS)),)
	@code=0; $(RUN) $(TEST_THREADS) $(PYTEST) --measure -n 2 --dist loadfile $(APART:%=--ignore=%) || code=$$?; \
	[ $$code != 2 ] || exit 2; \
	$(RUN) $(TEST_THREADS) $(PYTEST) -n 3 --dist loadfile $(APART) || code=$$?; exit $$code
else
	@$(RUN) $(TEST_THREADS) $(PYTEST) $(ARGS)
endif

test-full: $(CHECKED) build  ## run the tests that take minutes: parity at full size, long runs, precision on real video
	@$(RUN) $(PYTEST) -m full -s $(ARGS)

demo: build  ## run the main job on a clip and say where its files are
	@$(RUN) $(BIN)/sam2s demo $(if $(CHECKPOINT),--checkpoint '$(CHECKPOINT)') $(if $(OUTPUT),--output '$(OUTPUT)') $(ARGS)

docs: $(READY)  ## build the documentation's site into output/site, checking every link
	@$(PIP) -r requirements/docs.txt
	@$(RUN) NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo 'docs: output/site/index.html'

wheel:  ## build sdist and wheel into dist/, install the wheel into a clean environment and do the main job there
	@$(PYTHON) scripts/check_machine.py
	@$(PYTHON) scripts/wheel.py

release:  ## check that what is committed names one version, then the same, with a bill of materials; ARGS="--prepare 0.2.0", ARGS=--tag
	@$(PYTHON) scripts/check_machine.py
	@$(PYTHON) scripts/release.py $(ARGS)

benchmarks: build  ## measure what docs/benchmarks.md shows, on this machine and its GPU, and write that page; half an hour
	@$(RUN) bash scripts/benchmarks.sh $(PREFIX)/bin

clean:  ## remove .venv, build and dist
	rm -rf $(VENV) build dist *.egg-info

$(READY): $(wildcard requirements/*.txt)
	@command -v $(PYTHON) > /dev/null \
	  || { echo 'setup: there is no $(PYTHON): choose a Python with PYTHON=python3.12' >&2; exit 2; }
	@$(PYTHON) scripts/check_machine.py
	@# Wheels of two ROS distributions in one environment would overwrite each other's libraries.
	@if [ -e $(VENV) ] && [ -n "$$(ls $(VENV)/ready-* 2>/dev/null)" ] && [ ! -e $@ ]; then \
	  echo 'setup: $(VENV) was made for another ROS, making it again'; rm -rf $(VENV) build; fi
	@echo 'setup: environment $(VENV), $(ROS_SHOWN)'
	@$(PYTHON) -m venv $(VENV_OPTIONS) $(VENV)
	@if [ -n '$(SOURCED)' ]; then \
	  $(BIN)/python -c 'import numpy; print("numpy==" + numpy.__version__)' > $(NUMPY_OF_ROS); fi
	@echo 'setup: dependencies (torch is large: some minutes)'
	@$(PIP) -c requirements/constraints.txt $(ROS_OPTIONS) \
	  -r requirements/build.txt -r requirements/runtime.txt -r requirements/console.txt
	@touch $@

$(CHECKED): $(READY)
	@echo 'setup: what tests and lint need (some minutes)'
	@$(PIP) -c requirements/constraints.txt $(if $(SOURCED),-c $(NUMPY_OF_ROS)) -r requirements/test.txt -r requirements/lint.txt
	@# The parity tests say that they skip where these cannot be had.
	@$(PIP) -c requirements/constraints.txt $(if $(SOURCED),-c $(NUMPY_OF_ROS)) -r requirements/oracles.txt \
	  && SAM2_BUILD_CUDA=0 $(PIP) --no-deps --no-build-isolation -r requirements/oracles-without-dependencies.txt \
	  || echo 'setup: without the implementations that the parity tests compare with' >&2
	@touch $@

# Any change of the environment starts the build anew: CMake keeps the paths it once found.
$(BUILD)/build.ninja: $(READY)
	@echo 'build: the interfaces (half a minute the first time)'
	@rm -rf $(BUILD) && mkdir -p $(BUILD)
	@$(RUN) cmake -G Ninja -S . -B $(BUILD) -DPython3_EXECUTABLE=$(PREFIX)/bin/python \
	  '-DCMAKE_PREFIX_PATH=$(CMAKE_PREFIXES)' -DCMAKE_INSTALL_PREFIX=$(PREFIX) -DBUILD_TESTING=OFF \
	  > $(BUILD)/configure.log 2>&1 \
	  || { tail -n 40 $(BUILD)/configure.log; echo 'make: CMake failed on the lines above' >&2; exit 1; }

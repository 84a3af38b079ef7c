# A thin front over CMake: every target sees to the packages it needs (scripts/setup) and then runs CMake or a script.
# `make help` lists the targets and their settings.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := all
.PHONY: configure all demo test bench paper format lint install check-all coverage sass-report gpu-check clean help

BUILD ?= build
JOBS ?= $(shell nproc)
PREFIX ?= /usr/local
DESTDIR ?=
NATIVE ?=
SANITIZE ?=
COVERAGE ?=
TESTS ?=
CUDA ?=
CUDA_ARCHS ?=
CUDNN ?=
# Make itself has set LINT to the name of a program.
LINT :=

comma := ,
# Sanitizer builds live in a folder of their own: build/address-undefined, build/thread.
VARIANT := $(if $(SANITIZE),$(BUILD)/$(subst $(comma),-,$(SANITIZE)),$(BUILD))
INSTALL_BUILD := $(BUILD)/install$(if $(NATIVE),-native)
COMPILER := $(if $(filter-out default,$(origin CXX)),"-DCMAKE_CXX_COMPILER=$(CXX)")
# Always given, so that no earlier choice stays in force unseen.
CUDA_OPTIONS := -DLLSA_CUDA=$(or $(CUDA),AUTO) "-DCUDA_ARCHS=$(CUDA_ARCHS)" -DLLSA_CUDNN=$(or $(CUDNN),AUTO)

# CMake runs a make of its own, which is no part of this one's job server.
CMAKE := env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL cmake

configure:
	@scripts/setup --build "$(BUILD)" build
	@$(CMAKE) -S . -B "$(VARIANT)" $(COMPILER) $(CUDA_OPTIONS) -DLLSA_SANITIZE=$(SANITIZE) -DLLSA_COVERAGE=$(or $(COVERAGE),OFF) "-DLLSA_TESTS=$(or $(TESTS),.)" >"$(BUILD)/configure.log" || { cat "$(BUILD)/configure.log"; exit 1; }

all: configure
	@$(CMAKE) --build "$(VARIANT)" --parallel $(JOBS) --target llsa

demo: all
	@scripts/demo "$(BUILD)"

test: configure
	@$(CMAKE) --build "$(VARIANT)" --parallel $(JOBS) --target llsa_all_tests
	@SANITIZE=$(SANITIZE) scripts/test "$(VARIANT)"

bench: all
	@"$(BUILD)/llsa" bench attention
	@"$(BUILD)/llsa" bench step

paper: all
	@scripts/paper "$(BUILD)"

format:
	@scripts/setup --build "$(BUILD)" lint
	@scripts/lint --fix "$(BUILD)"

lint: configure
	@scripts/setup --build "$(BUILD)" lint
	@scripts/lint $(LINT) "$(BUILD)"

install:
	@scripts/setup --build "$(BUILD)" build
	@$(CMAKE) -S . -B "$(INSTALL_BUILD)" $(COMPILER) $(CUDA_OPTIONS) -DLLSA_NATIVE=$(if $(NATIVE),ON,OFF) -DLLSA_BUILD_TESTS=OFF \
	    "-DCMAKE_INSTALL_PREFIX=$(PREFIX)" >"$(BUILD)/configure.log" || { cat "$(BUILD)/configure.log"; exit 1; }
	@$(CMAKE) --build "$(INSTALL_BUILD)" --parallel $(JOBS)
	@DESTDIR="$(DESTDIR)" $(CMAKE) --install "$(INSTALL_BUILD)"

check-all:
	@scripts/setup --build "$(BUILD)" build lint check
	@scripts/check-all "$(BUILD)"

coverage:
	@scripts/setup --build "$(BUILD)" build coverage
	@scripts/coverage $(if $(filter KERNELS,$(COVERAGE)),--kernels "$(VARIANT)","$(BUILD)")

sass-report:
	@scripts/setup --build "$(BUILD)" sass
	@JOBS=$(JOBS) scripts/sass-report "$(BUILD)"

gpu-check:
	@LLSA_SETUP=check scripts/setup --build "$(BUILD)" build
	@scripts/gpu-check "$(BUILD)"

clean:
	rm -rf "$(BUILD)"

help:
	@echo "make            library and program, for this machine's processor: $(BUILD)/libllsa.a, $(BUILD)/llsa"
	@echo "make demo       make a data set, train on it, sample a grid, score it: $(BUILD)/demo"
	@echo "make test       unit tests, layering, installed package, README and docs"
	@echo "                SANITIZE=address,undefined or SANITIZE=thread: unit tests with sanitizers"
	@echo "                TESTS='^(core|nn/data)/': those files of tests/ alone"
	@echo "make bench      speed of attention and of the training step"
	@echo "make paper      the paper's comparisons in small: tables and plots in build/paper; an hour and a half"
	@echo "make format     clang-format on every file"
	@echo "make lint       clang-format and clang-tidy, reporting only"
	@echo "make install    to PREFIX ($(PREFIX)), under DESTDIR if set; for any x86-64-v3 processor unless NATIVE=1"
	@echo "make check-all  all the above with g++ and clang++, oneDNN held to AVX2, coverage,"
	@echo "                sanitizers, aarch64 under qemu, bare Debian 12 and 13 (some hours)"
	@echo "make coverage   lines that the tests execute, by layer; those of the CUDA kernels by file"
	@echo "                COVERAGE=KERNELS, as before in make test: of the kernels alone, without another run"
	@echo "make sass-report  registers, spills and the loops of the CUDA kernels; needs nvcc, no GPU"
	@echo "make gpu-check  on a machine with a GPU: device tests, bits, compute-sanitizer, demo, benchmark (9 minutes)"
	@echo "make clean      remove $(BUILD)"
	@echo "Settings: BUILD=$(BUILD) JOBS=$(JOBS) CXX=compiler CUDA=AUTO|ON|OFF CUDNN=AUTO|ON|OFF CUDA_ARCHS=\"80 90a\""

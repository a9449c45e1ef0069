# ICHNode: everything a newcomer needs to run. Each target installs what it needs first (scripts/setup).
SHELL := /bin/bash
.DEFAULT_GOAL := help

# debug | release. Pixel loops are compiled optimised in both.
CONFIGURATION ?= debug
# A seed repeats a demo; none draws one.
SEED ?=
# Files or folders for `make validate`; demo-output when empty.
FILES ?=

BUILD := .build/$(CONFIGURATION)
PYTHON := .venv/bin/python
MODEL = $(patsubst %/model.json,%,$(wildcard Models/*/model.json))

# One build at a time, also under make -j.
.NOTPARALLEL:

.PHONY: help setup build release test test-swift test-tools test-training demo run validate lint clean

help: ## this list
	@echo "usage: make TARGET [CONFIGURATION=debug|release]"
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14

setup: ## install Debian packages, the Python environment and OpenVINO (only what is missing)
	@scripts/setup

build: ## build ichnode and ichnode-dicom
	@scripts/setup build
	swift build --configuration $(CONFIGURATION)

release: ## the same, optimised
	@$(MAKE) --no-print-directory build CONFIGURATION=release

test: test-swift test-tools test-training ## run all tests

test-swift: ## run the Swift tests
	@scripts/setup test
	swift build --build-tests
	SWIFT_BACKTRACE=enable=no swift test --disable-xctest --parallel

test-tools: ## test the Python tools and validate the objects that the built node makes
	@scripts/setup test
	$(PYTHON) -m unittest discover --verbose --start-directory Tests/Tools

test-training: ## test Training/, all of it once on generated phantoms, and that the built node agrees with PyTorch
	@scripts/setup train
	cd Training && ICHNODE=$(CURDIR)/$(BUILD)/ichnode .venv/bin/python -m unittest discover --verbose --start-directory tests

demo: build ## send a real head CT through the node, clean and with a simulated bleed [SEED=n]
	@scripts/setup demo
	@$(PYTHON) scripts/demo/demo.py --ichnode $(BUILD)/ichnode $(if $(SEED),--seed $(SEED))

run: build ## start the node in the foreground with the example configuration
	@$(if $(filter 1,$(words $(MODEL))),,$(error Models/ should hold one model package, found: $(or $(MODEL),none)))
	@mkdir -p .run/data
	$(BUILD)/ichnode serve --config etc/ichnode.yaml --data-directory .run/data --run-directory .run --model $(MODEL)

validate: ## validate reports and heatmaps [FILES="file or folder ..."], by default the demo's
	@scripts/validate $(FILES)

lint: ## check the format of the Swift sources
	swift format lint --strict --parallel --recursive Sources Tests Package.swift

clean: ## remove build products and what the demo and `make run` left
	rm -rf .build .demo demo-output .run

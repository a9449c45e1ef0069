# ICHNode: everything a newcomer needs to run. Each target installs what it needs first (scripts/setup).
SHELL := /bin/bash
.DEFAULT_GOAL := help

# debug | release. Pixel loops are compiled optimised in both.
CONFIGURATION ?= debug
# A seed repeats a demo; none draws one.
SEED ?=
# Trials of `make crash-test`; 200 of `make delivery-test`.
TRIALS ?= 1000
# Of `make load-test`.
INSTANCES ?= 20000
# Files or folders for `make validate`; demo-output when empty.
FILES ?=
# For `make fuzz`: how long each target runs, and which one; all when empty.
SECONDS ?= 60
TARGET ?=
# Deliveries for `make scenarios`, by parts of their names; all when empty.
NAMES ?=
# Only each third, or fourth, of them.
EVERY ?= 1
# Of `make soak`.
HOURS ?= 2
# Of `make fuzz-api`: requests for each operation and phase, at most.
EXAMPLES ?= 200
# Folder of `make console-pictures`.
OUTPUT ?= console-pictures
# Of `make bench-receive`; CHECK=1 fails when a required ratio is missed, ICHNODE measures another build than release.
# `make bench-console` takes all but IMAGES.
REPEATS ?= 5
IMAGES ?= 400
CHECK ?=
ICHNODE ?=

BUILD := .build/$(CONFIGURATION)
PYTHON := .venv/bin/python
MODEL = $(patsubst %/model.json,%,$(wildcard Models/*/model.json))

# One build at a time, also under make -j.
.NOTPARALLEL:

.PHONY: help setup build release test test-swift test-tools test-training crash-test delivery-test fault-test load-test demo run
.PHONY: conformance console-pictures validate validate-all scenarios soak bench-receive bench-console fuzz fuzz-api deb package-test
.PHONY: lint clean

help: ## this list
	@echo "usage: make TARGET [CONFIGURATION=debug|release]"
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 17

setup: ## install Debian packages, the Python environment and OpenVINO (only what is missing)
	@scripts/setup

build: ## build ichnode and ichnode-dicom
	@scripts/setup build
	swift build --configuration $(CONFIGURATION) $(if $(filter release,$(CONFIGURATION)),--static-swift-stdlib)

# With Swift's libraries in the executables: no toolchain is needed to run them, and a worker starts in three quarters of
# the time.
release: ## the same, optimised
	@$(MAKE) --no-print-directory build CONFIGURATION=release

test: test-swift test-tools test-training ## run all tests

test-swift: ## run the Swift tests
	@scripts/setup test
	swift build --build-tests
	@# What tests leave in the folder for temporary files goes with it.
	export TMPDIR=$$(mktemp -d) && trap 'rm -rf "$$TMPDIR"' EXIT && \
		SWIFT_BACKTRACE=enable=no timeout --kill-after=10 900 swift test --disable-xctest --parallel

test-tools: ## test the Python tools and validate the objects that the built node makes
	@scripts/setup test
	$(PYTHON) Tests/Tools/run.py

test-training: ## test Training/, all of it once on generated phantoms, and that the built node agrees with PyTorch
	@scripts/setup train
	cd Training && ICHNODE=$(CURDIR)/$(BUILD)/ichnode .venv/bin/python -m unittest discover --verbose --start-directory tests

crash-test: build ## kill the node under load; nothing acknowledged may be lost [TRIALS=n] [SEED=n]
	@scripts/setup test
	ICHNODE=$(CURDIR)/$(BUILD)/ichnode $(PYTHON) Tests/Tools/crash_harness.py --trials $(TRIALS) \
		$(if $(SEED),--seed $(SEED))

delivery-test: TRIALS = 200
delivery-test: build ## kill the node while it delivers, let its PACS misbehave: nothing lost or doubled [TRIALS=n] [SEED=n]
	@scripts/setup test
	ICHNODE=$(CURDIR)/$(BUILD)/ichnode $(PYTHON) Tests/Tools/delivery_harness.py --trials $(TRIALS) \
		$(if $(SEED),--seed $(SEED))
	ICHNODE=$(CURDIR)/$(BUILD)/ichnode ICHNODE_DELIVERIES=all $(PYTHON) -m unittest discover --verbose \
		--start-directory Tests/Tools --pattern test_node_delivery.py

fault-test: build ## fail every file operation of a reception with every error of a disk
	@scripts/setup test
	ICHNODE=$(CURDIR)/$(BUILD)/ichnode ICHNODE_FAULTS=all $(PYTHON) -m unittest discover --verbose \
		--start-directory Tests/Tools --pattern test_node_faults.py -k Faults

load-test: build ## store from 64 associations at once; nothing may be lost [INSTANCES=n]
	@scripts/setup test
	ICHNODE=$(CURDIR)/$(BUILD)/ichnode ICHNODE_LOAD_INSTANCES=$(INSTANCES) $(PYTHON) -m unittest discover --verbose \
		--start-directory Tests/Tools --pattern test_node_load.py

fuzz-api: build ## ask the API of a running node everything that its description allows, and more [EXAMPLES=200]
	@scripts/setup test
	ICHNODE=$(CURDIR)/$(BUILD)/ichnode ICHNODE_API_EXAMPLES=$(EXAMPLES) $(PYTHON) -m unittest discover --verbose \
		--start-directory Tests/Tools --pattern test_console_api.py

scenarios: build ## deliver studies in every way there is, with a clock that is set, and compare what is decided [NAMES="a b"] [EVERY=n]
	@scripts/setup test
	@ICHNODE=$(CURDIR)/$(BUILD)/ichnode $(PYTHON) Tests/Tools/scenarios.py --every $(EVERY) $(NAMES)

soak: $(if $(ICHNODE),,release) ## a hospital's day in HOURS=2 with all its troubles; verdict, figures and a picture in soak-DATE [SEED=n]
	@scripts/setup test
	ICHNODE=$(or $(ICHNODE),$(CURDIR)/.build/release/ichnode) $(PYTHON) Tests/Tools/soak.py --hours $(HOURS) \
		$(if $(SEED),--seed $(SEED))

demo: build ## send a real head CT through the node, clean and with a simulated bleed [SEED=n]
	@scripts/setup demo
	@$(PYTHON) scripts/demo/demo.py --ichnode $(BUILD)/ichnode $(if $(SEED),--seed $(SEED))

run: build ## start the node in the foreground with the example configuration
	@$(if $(filter 1,$(words $(MODEL))),,$(error Models/ should hold one model package, found: $(or $(MODEL),none)))
	@mkdir -p .run/data
	$(BUILD)/ichnode serve --config etc/ichnode.yaml --data-directory .run/data --run-directory .run --model $(MODEL)

validate: ## validate reports and heatmaps [FILES="file or folder ..."], by default the demo's
	@scripts/validate $(FILES)

validate-all: build ## send every kind of study in every SR class through the node, and validate all that lies in the PACS
	@scripts/setup test
	ICHNODE=$(CURDIR)/$(BUILD)/ichnode ICHNODE_OBJECTS=all $(PYTHON) -m unittest discover --verbose \
		--start-directory Tests/Tools --pattern test_node_objects.py

console-pictures: build ## take pictures of every page of the console, in both themes and on a phone [OUTPUT=folder]
	@scripts/setup test
	ICHNODE=$(CURDIR)/$(BUILD)/ichnode ICHNODE_PICTURES=$(abspath $(OUTPUT)) $(PYTHON) Tests/Tools/run.py test_console_browser

conformance: build ## write the tables of docs/CONFORMANCE.md and docs/SECURITY.md from what was built
	@scripts/setup test
	@$(PYTHON) scripts/conformance/conformance.py --programs $(BUILD)

bench-receive: $(if $(ICHNODE),,release) ## measure receiving beside its peers [REPEATS=5] [IMAGES=400] [CHECK=1]
	@scripts/setup demo
	@$(PYTHON) Benchmarks/receive.py --ichnode $(or $(ICHNODE),.build/release/ichnode) --repeats $(REPEATS) \
		--images $(IMAGES) $(if $(CHECK),--check)

bench-console: $(if $(ICHNODE),,release) ## measure the worklist over 10,000 studies, and receiving while 200 viewers follow it [REPEATS=5] [CHECK=1]
	@scripts/setup demo
	@$(PYTHON) Benchmarks/console.py --ichnode $(or $(ICHNODE),.build/release/ichnode) --repeats $(REPEATS) \
		$(if $(CHECK),--check)

fuzz: ## fuzz what reads foreign bytes [SECONDS=60] [TARGET=name]; see Fuzz/README.md
	@scripts/setup build
	@Fuzz/run --seconds $(SECONDS) $(TARGET)

deb: release ## make the Debian package of the release build, in .build/deb
	@scripts/setup package
	@packaging/build-deb .build/deb

package-test: deb ## install, upgrade and purge the Debian package in a clean Debian with systemd (root)
	@scripts/setup demo
	$(PYTHON) Tests/Package/test_package.py

lint: ## check the format of the Swift sources
	swift format lint --strict --parallel --recursive Sources Tests Package.swift \
		Fuzz/Checks Fuzz/Targets Fuzz/Package.swift

clean: ## remove build products and what the demo and `make run` left
	rm -rf .build .build-fuzz .demo demo-output .run

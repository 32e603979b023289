# Everything a developer or CI runs. `make` alone lists it.

SHELL := /bin/bash
.DEFAULT_GOAL := help

GOLANGCI_VERSION := 2.15.0
GOLANGCI := .bin/golangci-lint

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)

# Test binaries start servers of their own: two at a time is what two cores carry.
TEST_FLAGS := -timeout 20m -p 2

PKG ?= ./...
COUNT ?= 10
FUZZTIME ?= 30s
BENCH ?= .
BENCH_FILTERS ?=
BENCH_CAPTURE ?=
BENCH_DELIVERY ?=

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: needs-postgres build ## See it work: a throw-away stack on this machine, for 20 seconds
	./bin/relay demo

.PHONY: build
build: ## Build bin/relay
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/relay ./cmd/relay

.PHONY: test
test: needs-test ## Run all tests with the race detector; installs what is missing first
	go test -race $(TEST_FLAGS) $(PKG)

.PHONY: test-short
test-short: ## Run the tests that need no server
	go test -short $(TEST_FLAGS) $(PKG)

.PHONY: test-faults
test-faults: needs-test ## Run the tests of the fault matrix, docs/reference/faults.md: minutes
	scripts/test-faults.sh

.PHONY: race
race: needs-test ## Hunt races and flakes: the tests of PKG, COUNT times over
	go test -race -count $(COUNT) $(TEST_FLAGS) $(PKG)

.PHONY: fuzz
fuzz: needs-postgres ## Run every fuzz target of PKG for FUZZTIME each
	FUZZTIME=$(FUZZTIME) scripts/fuzz.sh $(PKG)

.PHONY: bench
bench: needs-postgres ## Run the benchmarks of PKG that match BENCH
	go test -run '^$$' -bench '$(BENCH)' -benchmem -timeout 60m -p 1 $(PKG)

.PHONY: bench-filters
bench-filters: needs-postgres ## Measure the filter index against its goals: minutes, some GB of memory
	go run ./bench/filters $(BENCH_FILTERS)

.PHONY: bench-capture
bench-capture: needs-postgres build ## Measure the way from the log to the stream against its goals: some minutes
	go run ./bench/capture -relay bin/relay $(BENCH_CAPTURE)

.PHONY: bench-delivery
bench-delivery: needs-postgres build ## Measure the way from the stream to the receivers against its goals: half an hour
	go run ./bench/delivery -relay bin/relay $(BENCH_DELIVERY)

.PHONY: lint
lint: tools ## Run the linters, and check the formatting
	$(GOLANGCI) run

.PHONY: fmt
fmt: tools ## Format the code
	$(GOLANGCI) fmt

.PHONY: vet
vet: ## Run go vet
	go vet -tags faults ./...
	go vet -tags failpoint ./internal/failpoint ./cmd/relay

.PHONY: check
check: vet lint test ## What CI runs: vet, format check, lint, all tests

.PHONY: hooks
hooks: ## Run the checks of .githooks before each commit
	git config core.hooksPath .githooks

.PHONY: compose-config
compose-config: ## Check docker-compose.yml
	docker compose config --quiet

.PHONY: clean
clean: ## Remove what was built, but not the tools in .bin
	rm -rf bin dist
	find . -name '*.test' -not -path './.git/*' -type f -delete

.PHONY: tools
tools: ## Build the pinned golangci-lint into .bin, once: minutes
	@if [[ "$$($(GOLANGCI) version --short 2>/dev/null)" != "$(GOLANGCI_VERSION)" ]]; then \
		echo "building golangci-lint v$(GOLANGCI_VERSION) into .bin (once, some minutes)"; \
		GOBIN="$(CURDIR)/.bin" go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v$(GOLANGCI_VERSION); \
	fi

.PHONY: needs-postgres
needs-postgres:
	@scripts/install-missing.sh postgres

.PHONY: needs-test
needs-test:
	@scripts/install-missing.sh postgres cc

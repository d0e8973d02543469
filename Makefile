# Everything here needs Go and make; test-race needs a C compiler too, test-interop npm.

VERSION  := $(shell git describe --always --dirty 2>/dev/null || echo dev)
FUZZTIME ?= 60s
ARGS     ?=

.DEFAULT_GOAL := help
.PHONY: help build demo test test-race test-interop check fuzz bench clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build the static binary bin/sallyport
	CGO_ENABLED=0 go build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/sallyport ./cmd/sallyport

demo: build ## Run the demo on loopback (ARGS=--exit ends after the tour)
	bin/sallyport demo $(ARGS)

test: ## Run all tests
	CGO_ENABLED=0 go test -timeout 20m ./...

test-race: ## Run all tests under the race detector
	CGO_ENABLED=1 go test -race -timeout 40m ./...

test-interop: build interop/node_modules/.package-lock.json ## Run MCP programs written by others through a node
	go test -tags interop -count 1 -timeout 40m ./interop

interop/node_modules/.package-lock.json: interop/package.json interop/package-lock.json
	cd interop && npm ci

check: ## Check format, vet, staticcheck, import rules and go.mod
	@files=$$(go tool gofumpt -l .); test -z "$$files" || { echo "not formatted (go tool gofumpt -w .):"; echo "$$files"; exit 1; }
	go vet -tags interop ./...
	go tool staticcheck -tags interop ./...
	go test -run Layout -count 1 .
	go mod tidy -diff

fuzz: ## Run every fuzz target for FUZZTIME (60s) each
	@grep -roE --include='*_test.go' --exclude-dir=node_modules '^func Fuzz[[:alnum:]_]+' . | sort | while IFS=': ' read -r file _ target; do \
		echo "== $${file%/*} $$target"; go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1s "$${file%/*}" || exit 1; done

bench: ## Benchmark the whole path beside a bare reverse proxy
	@mkdir -p bin
	go test -run '^$$' -bench . -count 6 -timeout 60m ./node/server >bin/bench.txt || { cat bin/bench.txt; exit 1; }
	go tool benchstat bin/bench.txt

clean: ## Remove what the other targets made
	rm -rf bin interop/node_modules

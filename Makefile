# make help lists the targets.

SHELL       := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build
.NOTPARALLEL:
.PHONY: help build binaries dashboard demo deps node check test test-go test-dashboard test-browser lint cross soak bench fuzz screenshots release notices vulnerabilities clean

GO       ?= go
FUZZTIME ?= 10s
# The version that make release stamps; one that was built with changes says so.
VERSION  ?= v0.1.0$(shell git diff --quiet HEAD 2>/dev/null || echo -dirty)

# A checkout that git does not trust (another user's) builds without its commit.
vcs := $(shell git rev-parse HEAD >/dev/null 2>&1 && echo auto || echo false)
# One set of flags for all, so that builds, tests and the builds within tests share
# their cache.
export GOFLAGS := $(strip $(GOFLAGS) -trimpath -buildvcs=$(vcs))
export PATH    := $(CURDIR)/bin/tools:$(PATH)
export npm_config_update_notifier := false
export npm_config_progress := false

# Every folder that has Node packages of its own.
node_folders := $(patsubst %/package-lock.json,%,$(shell find . -name node_modules -prune -o -name package-lock.json -print | sort))
node_stamps  := $(addsuffix /node_modules/.installed,$(node_folders))

dashboard_sources := $(shell find dashboard -name node_modules -prune -o -name dist -prune -o -type f ! -name '*.go' -print)
dashboard_built   := dashboard/dist/app/index.html

# What gofmt looks at: our packages' files, nothing below node_modules.
go_files := {{$$d := .Dir}}{{range .GoFiles}}{{$$d}}/{{.}} {{end}}{{range .TestGoFiles}}{{$$d}}/{{.}} {{end}}{{range .XTestGoFiles}}{{$$d}}/{{.}} {{end}}{{range .IgnoredGoFiles}}{{$$d}}/{{.}} {{end}}

ldflags = -s -w -X main.release=$(VERSION)

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile

build: dashboard binaries  ## bin/devicehub and bin/firmware-sim, the dashboard inside

binaries:
	@mkdir -p bin
	$(GO) build -o bin/ ./cmd/devicehub ./cmd/firmware-sim

# Without Node the binaries still build; their dashboard says what is missing.
dashboard:
	@if command -v npm >/dev/null; then \
		$(MAKE) --no-print-directory $(dashboard_built); \
	else \
		echo "Node.js and npm are not installed: the dashboard is left out" >&2; \
	fi

$(dashboard_built): dashboard/node_modules/.installed $(dashboard_sources)
	cd dashboard && npm run --silent build
	@touch $@

node: $(node_stamps)

%/node_modules/.installed: %/package-lock.json
	cd $* && npm ci --include=dev --no-fund --no-audit --loglevel=error
	@touch $@

demo:  ## a hub and a small fleet until Ctrl-C; DEMO="--http 127.0.0.1:5000 --mqtt 127.0.0.1:5001" chooses the ports
	@command -v npm >/dev/null || { echo "make demo needs Node.js 20 or newer with npm" >&2; exit 1; }
	@$(MAKE) --no-print-directory build
	@mkdir -p bin && $(GO) build -o bin/demo ./cmd/demo
	@exec bin/demo $(DEMO)

deps: node  ## install what the tests need, where that may be done
	@.ci/deps

lint: dashboard/node_modules/.installed bin/tools/golangci-lint  ## formatting, vet, golangci-lint, and the dashboard's linter
	@unformatted=$$(gofmt -l $$($(GO) list -f '$(go_files)' ./...)); \
	if [ -n "$$unformatted" ]; then echo "gofmt -w is needed on:" $$unformatted >&2; exit 1; fi
	$(GO) vet ./...
	golangci-lint run
	cd dashboard && npm run --silent lint

bin/tools/golangci-lint: .ci/lint
	@.ci/lint

# go test's lines for packages that have no tests say nothing.
tested := sed -u '/\[no test files\]/d'

check: node lint  ## the quick tests, without other servers and browsers
	$(GO) test -short $$($(GO) list ./... | grep -v -e /e2e -e /cmd/hostile) | $(tested)
	cd dashboard && npm test --silent

cross:  ## compile for 32-bit ARM, where an int is short
	CGO_ENABLED=0 GOOS=linux GOARCH=arm GOARM=7 $(GO) build ./cmd/devicehub ./cmd/firmware-sim

# Each part runs, whatever became of the one before.
test: deps build  ## every test; installs what they need where it may
	@$(MAKE) --no-print-directory -k lint test-go test-dashboard test-browser cross

# With the tag poison, buffers that are given back are overwritten (hub/poison).
test-go:
	$(GO) test -race -tags poison -timeout 18m $$($(GO) list ./... | grep -v '/firmware-sim$$') | $(tested)
	$(GO) test -race -tags poison -cpu 1 -timeout 18m ./firmware-sim | $(tested)  # the detector itself may end bubbles with many goroutines (golang.org/issue/78156)
	$(GO) test -timeout 5m -run TestNeverWrong ./devices/liveness | $(tested)  # whole, as the race detector's time does not allow
	cd configs/grafana/promql && $(GO) test -count 1 ./...  # what it reads lies outside its module

test-dashboard: dashboard/node_modules/.installed
	cd dashboard && npm test --silent

test-browser: deps build
	cd dashboard && npm run --silent e2e

soak: deps build  ## hours of load, faults and restarts
	DEVICEHUB_SOAK=1 $(GO) test -v -timeout 12h ./...

bench:  ## measure the figures of README again
	$(GO) run ./hub/hubtest/bench -markdown
	$(GO) test -run '^$$' -bench . -benchmem ./...

fuzz:  ## every fuzz target, for FUZZTIME each
	@.ci/fuzz $(FUZZTIME)

screenshots: deps build  ## draw the dashboard's pages
	cd dashboard && npm run --silent screenshots

# The licences of what the binaries hold from others; a test says when they are due.
notices: dashboard/node_modules/.installed  ## write the licences of what is linked in and bundled
	$(GO) run ./cmd/notices > cmd/devicehub/licenses.txt.new
	mv cmd/devicehub/licenses.txt.new cmd/devicehub/licenses.txt

# Where a database cannot be reached it says so, and fails: silence is no good news.
vulnerabilities: dashboard/node_modules/.installed  ## ask the databases of Go and npm for known faults
	@.ci/vulnerabilities

release: dashboard  ## binaries for the machines that hubs run on, with their checksums
	@rm -rf bin/release && mkdir -p bin/release
	@for target in amd64: arm64: arm:7; do \
		name=linux-$${target%%:*}; arm=$${target##*:}; name=$$name$${arm:+v$$arm}; \
		for program in devicehub firmware-sim; do \
			echo "bin/release/$$program-$$name"; \
			CGO_ENABLED=0 GOOS=linux GOARCH=$${target%%:*} GOARM=$$arm $(GO) build -ldflags '$(ldflags)' \
				-o bin/release/$$program-$$name ./cmd/$$program; \
		done; \
	done
	@cd bin/release && sha256sum * > SHA256SUMS && cat SHA256SUMS

clean:  ## remove what was built
	rm -rf bin dashboard/dist/app

# Foedus. `make` prints this help.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory --warn-undefined-variables

# Node 24 comes with the project (lock-filed platform packages); a Node 24 or newer that is already there is used as it is.
SYSTEM_NODE_MAJOR := $(shell node -p 'process.versions.node.split(".")[0]' 2>/dev/null || echo 0)
ifeq ($(shell [ $(SYSTEM_NODE_MAJOR) -ge 24 ] && echo yes),yes)
export PATH := $(PATH):$(CURDIR)/node_modules/.bin
else
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)
endif

STAMP := node_modules/.foedus-installed
# What a released format looks like is written once: `make test-update` leaves this spec's vectors alone.
GOLDEN_VECTORS := services/registry-sync/codec/segment-codec.spec.ts
# What only tests call: the echo service of the runtime's tests, and etcd's API for benches.
TEST_PROTO_OUT := node_modules/.cache/test-proto
ECHO := test/proto/echo-service.gen.ts
ETCD := test/proto/etcd-rpc.gen.ts
# npm 9 (Debian 12) does not link a program that is called node, and takes away what it did not link.
link_node = for node in node_modules/node-linux-*/bin/node; do \
	  [ ! -x "$$node" ] || [ -e node_modules/.bin/node ] || ln -s "../../$$node" node_modules/.bin/node; \
	done
generate_test_protos = rm -rf $(TEST_PROTO_OUT) && buf generate --template buf.gen.test.yaml --config buf.test.yaml -o $(TEST_PROTO_OUT)
# One of them to stdout, as the file $(2): protoc-gen-es writes the extension .ts only into relative imports.
test_proto = sed -E 's|("\#gen/[^"]*)\.js"|\1.ts"|' $(TEST_PROTO_OUT)/$(1) | biome check --write --stdin-file-path=$(2)
echo_proto = $(call test_proto,foedus/test/v1/echo_service_pb.ts,$(ECHO))
etcd_proto = $(call test_proto,etcdserverpb/rpc_pb.ts,$(ETCD))
SEED ?=
SECONDS ?=
RUNS ?=
SAMPLES ?=
THREADS ?=
MESSAGES ?=
HUBS ?=
DEBIAN ?= bookworm trixie
ONLY ?=
FAULTS ?=
HOW ?=
BROKEN ?=
ENGINE ?=
REPLICAS ?=
ZOO ?=
ROW ?=
BASE ?=
PAIRS ?=
PREFIX ?= /usr/local
DESTDIR ?=

##@ Use
.PHONY: help
help: ## print this help
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z][a-z-]*:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: up
up: setup ## start three federated hubs with a live screen and play a short tour
	@node test/demo/up.ts

.PHONY: tour
tour: setup ## play the tour, check every step, exit 0 or 1
	@node test/demo/up.ts --tour

.PHONY: down
down: setup ## stop what `make up` started
	@node test/demo/down.ts

.PHONY: certs
certs: setup ## issue a development PKI into certs/dev
	@node certs/dev.ts

##@ Build
.PHONY: setup
setup: $(STAMP) ## install what is missing (npm packages, Node 24)

$(STAMP): package-lock.json .npmrc
	@command -v npm >/dev/null || { echo "foedus needs Node 18 or newer with npm to install itself: on Debian, apt-get install nodejs npm" >&2; exit 1; }
	@[ $(SYSTEM_NODE_MAJOR) -ge 18 ] || { echo "foedus needs Node 18 or newer to install itself; this one is too old: $$(node --version 2>/dev/null || echo none)" >&2; exit 1; }
	@echo "installing packages (once)"
	@npm ci --ignore-scripts --no-audit --no-fund --loglevel=error </dev/null
	@$(link_node)
	@node -e 'if (+process.versions.node.split(".")[0] < 24) { console.error("foedus runs on Node 24; none comes with the project for " + process.platform + "-" + process.arch + ", so install Node 24 or newer yourself"); process.exit(1); }'
	@# What npm left out because the system's Node is too old for it.
	@missing=$$(node tools/optional.ts) && { [ -z "$$missing" ] || \
	  NODE_NO_WARNINGS=1 npm install --no-save --ignore-scripts --no-audit --no-fund --loglevel=error $$missing </dev/null; }
	@$(link_node)
	@touch $(STAMP)

.PHONY: generate
generate: setup ## regenerate proto/gen and the generated pages in docs/
	@buf format -w && buf generate
	@$(generate_test_protos)
	@$(echo_proto) >$(TEST_PROTO_OUT)/echo.ts && mv $(TEST_PROTO_OUT)/echo.ts $(ECHO)
	@$(etcd_proto) >$(TEST_PROTO_OUT)/etcd.ts && mv $(TEST_PROTO_OUT)/etcd.ts $(ETCD)
	@node test/tidy/docs.ts --write

.PHONY: proto-baseline
proto-baseline: setup ## declare today's stable schema the one that must not be broken
	@buf build proto -o test/tidy/baseline.binpb

.PHONY: proto-image
proto-image: setup ## write the schema with its comments as a descriptor set, dist/foedus.binpb, for clients and grpcurl -protoset
	@mkdir -p dist && buf build --as-file-descriptor-set -o dist/foedus.binpb

.PHONY: upgrade-baseline
upgrade-baseline: setup ## at a release: record the committed version, which the next one must be upgradable from
	@node test/upgrade/record.ts --commit HEAD

.PHONY: build
build: setup ## bundle the installed command into dist/
	@node cli/build.ts

.PHONY: console
console: setup ## build the page of the console, which a hub in this checkout then serves
	@node console/build.ts

.PHONY: packages
packages: setup ## build the packages of the SDKs in dist/packages/: npm, and a Python wheel (Python 3.11 or newer with venv)
	@node tools/packages/typescript.ts
	@[ -n "$${FOEDUS_PYTHON:-}" ] || node tools/install.ts foedus-python
	@tools/packages/python.sh dist/packages

.PHONY: image
image: setup ## build the container image into dist/, without a registry or a daemon (needs buildah)
	@ops/image/build.sh

.PHONY: install
install: setup ## install the command, its Node and the systemd units (PREFIX=/usr/local DESTDIR=)
	@ops/install.sh install "$(PREFIX)" "$(DESTDIR)"

.PHONY: uninstall
uninstall: ## remove what `make install` put there; configuration and data stay
	@ops/install.sh uninstall "$(PREFIX)" "$(DESTDIR)"

.PHONY: tools
tools: setup ## get the programs that tests and charts need: helm, grpcurl, promtool ... (once; as root also Debian packages, such as Go)
	@node tools/install.ts

##@ Check
.PHONY: check
check: setup ## format, types, schema lint and compatibility, generated code, house rules
	@biome check --error-on-warnings .
	@tsc --noEmit -p .
	@tsc --noEmit -p console
	@buf lint
	@buf format --diff --exit-code >/dev/null || { echo "schema files are not formatted: run make generate" >&2; exit 1; }
	@buf breaking proto --against test/tidy/baseline.binpb
	@rm -rf node_modules/.cache/gen && buf generate -o node_modules/.cache/gen && diff -r node_modules/.cache/gen/proto/gen proto/gen >/dev/null || { echo "proto/gen is not what the schema gives: run make generate" >&2; exit 1; }
	@$(generate_test_protos)
	@$(echo_proto) | diff - $(ECHO) >/dev/null || { echo "$(ECHO) is not what its schema gives: run make generate" >&2; exit 1; }
	@$(etcd_proto) | diff - $(ETCD) >/dev/null || { echo "$(ETCD) is not what its schema gives: run make generate" >&2; exit 1; }
	@vitest run --reporter=dot test/tidy

.PHONY: format
format: setup ## format the code
	@biome check --write . && buf format -w

.PHONY: test
test: setup ## run all tests
	@node test/run.ts

.PHONY: hostile-network
hostile-network: setup ## two hubs on a network that loses, cuts and slows, in network namespaces (root; ONLY=words of a scenario)
	@node test/hostile-network/main.ts $(if $(ONLY),--only "$(ONLY)")

.PHONY: histories
histories: setup ## hubs under faults, and an outside checker of what clients saw (RUNS=20 SECONDS=60 HUBS=3|5 SEED= FAULTS= BROKEN=1; root for partitions)
	@node test/histories/main.ts $(if $(RUNS),--runs $(RUNS)) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(HUBS),--hubs $(HUBS)) $(if $(SEED),--seed $(SEED)) $(if $(FAULTS),--faults $(FAULTS)) $(if $(BROKEN),--broken)

.PHONY: flood
flood: setup ## a hub flooded by five peers with each type of frame in turn (SECONDS=30 each, ONLY=types)
	@node test/flood/main.ts --seconds "$(or $(SECONDS),30)" --only "$(ONLY)"

.PHONY: chart
chart: setup ## check the Helm chart with Helm 4 and 3, Kubernetes' schemas and an API server (make tools gets them)
	@node test/run.ts test/chart

.PHONY: fresh
fresh: ## follow the README on bare Debian systems: make tour, make test (DEBIAN="bookworm trixie"; as root, needs debootstrap)
	@tools/fresh.sh $(DEBIAN)

.PHONY: test-update
test-update: setup ## rewrite the transcripts in testdata/ and the chart's goldens; look at the diff before you commit it
	@FOEDUS_UPDATE_TRANSCRIPTS=1 vitest run --update=all test/chart/chart.spec.ts \
	  $$(grep -rlE 'checkTranscript\(|toMatchFileSnapshot\(' --include='*.spec.ts' services test | grep -vxF '$(GOLDEN_VECTORS)')

.PHONY: simulate
simulate: setup ## run the seeded federation simulator (SEED= RUNS= HUBS= THREADS= FAULTS=), that of consensus (ENGINE=raft REPLICAS=) or its zoo (ZOO=1 ROW=)
ifneq ($(ENGINE)$(ZOO),)
	@node test/simulator/consensus/main.ts $(if $(ENGINE),--engine $(ENGINE)) $(if $(ZOO),--zoo) $(if $(ROW),--row $(ROW)) $(if $(SEED),--seed $(SEED)) $(if $(RUNS),--runs $(RUNS)) $(if $(REPLICAS),--replicas $(REPLICAS)) $(if $(THREADS),--threads $(THREADS))
else
	@node test/simulator/main.ts $(if $(SEED),--seed $(SEED)) $(if $(RUNS),--runs $(RUNS)) $(if $(HUBS),--hubs $(HUBS)) $(if $(THREADS),--threads $(THREADS)) $(if $(FAULTS),--faults $(FAULTS))
endif

.PHONY: twins
twins: setup ## hubs with two copies that share a key, against the log that endures lies (SAMPLES=2000 THREADS= ONLY=exhaustive,lossy,mutants)
	@node test/simulator/twins/main.ts $(if $(SAMPLES),--samples $(SAMPLES)) $(if $(THREADS),--threads $(THREADS)) --only "$(ONLY)"

.PHONY: migrations
migrations: setup ## kill the source, the destination and the leader of a move at each of its steps, as real processes
	@MIGRATIONS=all vitest run test/e2e/migration-kills.spec.ts

.PHONY: scenarios
scenarios: setup ## happy path, partition, liar, load and restart, simulated and as processes: promised, measured, ok (ONLY=T2,numbers HOW=simulated|processes)
	@node --max-semi-space-size=128 test/scenarios/main.ts $(if $(ONLY),--only "$(ONLY)") $(if $(HOW),--how "$(HOW)")

.PHONY: soak
soak: setup ## four hubs under load and faults for 15 minutes (SEED= SECONDS=; as root also with a full disk)
	@node test/soak/main.ts $(if $(SEED),--seed=$(SEED)) $(if $(SECONDS),--seconds=$(SECONDS))

.PHONY: fuzz
# Without the thresholds glibc raises them with each large block that is freed, and keeps ever more for itself: that is not what is measured.
fuzz: setup ## give hubs generated messages and look what becomes of them (SEED= MESSAGES=1000000 ONLY=registry)
	@MALLOC_ARENA_MAX=1 MALLOC_TRIM_THRESHOLD_=131072 MALLOC_MMAP_THRESHOLD_=16384 \
	  node --expose-gc --max-semi-space-size=2 test/fuzz/main.ts $(if $(SEED),--seed $(SEED)) $(if $(MESSAGES),--messages $(MESSAGES)) $(if $(ONLY),--only "$(ONLY)")

.PHONY: audit
audit: setup ## 100,000 commands with SIGKILL in the middle against their audit, and how many events a second are stored and watched
	@AUDIT_COMMANDS=100000 vitest run test/e2e/audit.spec.ts
	@node test/bench/main.ts --only events

.PHONY: bench
bench: setup ## measure against raw TLS, unary gRPC, NATS and etcd; writes docs/BENCHMARKS.md (ONLY=commands,push,...)
	@node test/bench/main.ts $(if $(ONLY),--only "$(ONLY)")

.PHONY: mqtt-load
mqtt-load: setup build ## 2,000 devices at a real broker, 5,000 messages a second, and how late a second hub sees them (SECONDS=20)
	@node test/mqtt/load.ts --bundle $(if $(SECONDS),--seconds $(SECONDS))

.PHONY: pairs
pairs: setup ## measure this checkout against an earlier commit, in pairs of runs (BASE=<commit> PAIRS=12 ONLY=push)
	@node test/bench/pairs.ts $(if $(BASE),--base $(BASE)) $(if $(PAIRS),--pairs $(PAIRS)) $(if $(ONLY),--only "$(ONLY)")

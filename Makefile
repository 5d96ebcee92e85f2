# What a newcomer needs: `make run` and `make test`. Both install what is missing first (packaging/setup.sh).

SHELL := /bin/sh
export CARGO_TARGET_DIR ?= $(HOME)/.cache/picket/target
SETUP := packaging/setup.sh
# Always the whole workspace: another selection resolves other features of shared dependencies and builds RocksDB again.
BUILD := cargo build --workspace --bins
BINARIES := $(CARGO_TARGET_DIR)/debug
FAILPOINTS := picket-relay/failpoints,picket-aggregator/failpoints

.PHONY: help run build test failpoint-binaries soak unit lint bench fuzz mutations clean-run

help:
	@echo 'make run      build, start an aggregator and a relay on loopback, print DSN and address (Ctrl-C stops them)'
	@echo 'make build    build both programs; they are in $(BINARIES)'
	@echo 'make test     unit, end-to-end, SDK and fault tests'
	@echo 'make soak     the fault proofs at full length: kills, power cuts, networks (SOAK_SECONDS=7200 at most; root for some)'
	@echo 'make unit     the tests that need no SDK and no second process'
	@echo 'make lint     formatting, clippy, documentation, dependency policy'
	@echo 'make bench    what an event costs, and the relay against a bare HTTP server on this machine (release build)'
	@echo 'make fuzz     every fuzz target for 10 minutes (FUZZ_SECONDS=60 for less)'
	@echo 'make mutations  break the source in known ways, one after the other: the simulation must find each'
	@echo 'make clean-run  forget the data of make run'

run:
	@$(SETUP) build
	@$(SETUP) run
	@[ -x $(BINARIES)/picket-aggregator ] && [ -x $(BINARIES)/picket-relay ] \
		|| echo 'run: building (the first time takes 15 to 30 minutes, most of it RocksDB)' >&2
	@$(BUILD)
	@packaging/run.sh

build:
	@$(SETUP) build
	$(BUILD)

# Both programs with failpoints, beside those without.
failpoint-binaries:
	@$(SETUP) test
	$(BUILD) --features $(FAILPOINTS)
	@mkdir -p $(CARGO_TARGET_DIR)/failpoints
	cp $(CARGO_TARGET_DIR)/debug/picket-relay $(CARGO_TARGET_DIR)/debug/picket-aggregator $(CARGO_TARGET_DIR)/failpoints/

test: failpoint-binaries
	cargo test --workspace --features $(FAILPOINTS) --test journal_failpoints
	$(BUILD)
	cargo test --workspace --no-fail-fast

# The proofs of which `make test` runs a sample. One after the other, and all of them, whatever one says.
SOAK := kill kill_places failpoints power_cut journal_power_cut journal_disk in_doubt clickhouse_away bad_networks identity stop reload seeds journal_bit_flips
SOAK_SECONDS ?= 7200

soak: failpoint-binaries
	$(BUILD)
	export PICKET_SOAK=1; \
	timeout --kill-after=30 $(SOAK_SECONDS) cargo test --workspace --no-fail-fast $(SOAK:%=--test %) -- --nocapture; proofs=$$?; \
	timeout --kill-after=30 $(SOAK_SECONDS) cargo test --workspace --lib -- --nocapture spool::flip && exit $$proofs

unit:
	@$(SETUP) build
	@$(SETUP) run
	cargo test --workspace --exclude picket-tests

lint:
	@$(SETUP) build
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps
	@if command -v cargo-deny >/dev/null 2>&1; then cargo deny check; else echo 'lint: cargo-deny is not installed, dependency policy not checked' >&2; fi

bench:
	@$(SETUP) build
	@$(SETUP) run
	cargo build --workspace --exclude picket-tests --bins --release
	$(CARGO_TARGET_DIR)/release/picket-bench scrub
	$(CARGO_TARGET_DIR)/release/picket-bench accept

FUZZ_SECONDS ?= 600

fuzz:
	CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/fuzz tests/fuzz/run.sh all $(FUZZ_SECONDS)

mutations:
	tests/simulation/mutations/run.sh

# Both locks are free only when nothing works in there.
clean-run:
	@for lock in .run/lock .run/aggregator/lock; do \
		if [ -e $$lock ] && ! flock -n $$lock true; then \
			echo 'clean-run: Picket is running from .run; stop it first (Ctrl-C in its terminal)' >&2; exit 1; \
		fi; \
	done
	rm -rf .run

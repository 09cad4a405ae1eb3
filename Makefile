# SPDX-License-Identifier: Apache-2.0
# Two commands do everything on a fresh machine with Rust: `make demo` and `make test`.
.PHONY: help demo check test test-dpdk test-sriov test-cluster build-dpdk fuzz life soak bench bench-peers bench-instructions bench-cni fmt lint deny typos build image deb install-needs install-demo-needs

CARGO ?= cargo
release := $${CARGO_TARGET_DIR:-target}/x86_64-unknown-linux-gnu/release

help: ## says what there is
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

build: ## the programs of a node, optimised, static and stripped, in target/dist
	sh deploy/build.sh

build-dpdk: ## the engine with DPDK's drivers, linked dynamically, in target/dpdk (needs libdpdk-dev, libclang-dev, pkg-config)
	RUSTC_WRAPPER=$$PWD/dataplane/dpdk/rustc.sh $(CARGO) build --release --locked --target-dir target/dpdk -p sluiced --features dpdk --bins

image: build ## the image of a node's programs, in target/image: an OCI archive, its parts and their sums (IMAGE_ARGS)
	sh deploy/image/build.sh $(IMAGE_ARGS)

deb: build ## a Debian package of a node's programs, units and pages, in target/deb
	sh deploy/deb/build.sh

demo: install-demo-needs ## the whole path in network namespaces: CNI ADD, engine, firewall, pod (root; about a minute)
	$(CARGO) build --release --locked -p sluiced -p sluicectl -p sluicegate -p sluice-memif -p sluice-vfirewall --bins --example vnf
	sh tests/as-root.sh $(release)/sluicectl demo

check: lint ## lint and the tests that need no root: for before every commit
	sh tests/check.sh

test: install-needs ## every test there is, told against those that were skipped (TEST_ARGS=--landing: also lint and fuzzing)
	sh tests/run.sh $(TEST_ARGS)

test-sriov: ## the cases over real VFs in a virtual machine; SLUICEGATE_PF=<PF> [SLUICEGATE_WIRE=<netdev>]: on that PF
	sh tests/sriov/run.sh

test-dpdk: install-needs ## the engine built with DPDK, and uplinks on DPDK's software devices (root)
	sh tests/dpdk.sh all

test-cluster: install-needs build ## the plugins under containerd, and the whole in clusters of one node by image and manifests
	SLUICE_CLUSTER=$$(sh tests/cluster/needs.sh) && export SLUICE_CLUSTER && $(CARGO) test --locked -p sluice-tests --test cluster --test container --test on_a_cluster

fuzz: ## every fuzz target for a minute each (FUZZ_SECONDS); needs a nightly compiler
	sh fuzz/run.sh

bench: ## criterion benches of every stage
	$(CARGO) bench --locked -p sluice-benches

bench-peers: ## figures under the names that programs for other data planes print theirs by (PEERS_ARGS; benches/README.md)
	$(CARGO) build --release --locked -p sluice-benches --bin peers
	sh benches/peers.sh $(PEERS_ARGS)

bench-instructions: ## instructions of each stage per frame or value (INSTRUCTIONS_ARGS; needs valgrind)
	$(CARGO) build --release --locked -p sluice-benches --bin instructions
	$(release)/instructions $(INSTRUCTIONS_ARGS)

life: install-needs ## an engine's life at random, for an hour (SLUICE_LIFE_SECONDS): nothing may be left of it
	$(CARGO) build --locked -p sluiced -p sluicectl --bins
	SLUICE_LIFE_SECONDS=$${SLUICE_LIFE_SECONDS:-3600} $(CARGO) test --locked -p sluice-tests --test whole_life -- --nocapture

soak: ## pods that ping each other beside one that floods: nothing may be lost (SOAK_SECONDS, an hour; SOAK_WORKERS)
	$(CARGO) build --release --locked -p sluice-benches --bin soak
	$(release)/soak

bench-cni: install-needs build ## what the meta plugin adds to a call, with and without an API server (root)
	SLUICE_CLUSTER=$$(sh tests/cluster/needs.sh) && export SLUICE_CLUSTER && $(CARGO) bench --locked -p sluice-tests --bench cni

fmt: ## formats the code
	$(CARGO) fmt --all

lint: ## formatting, clippy and rustdoc, warnings being errors; doc comments name their subject
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --workspace --no-deps
	$(CARGO) test --quiet --locked -p sluice-sources --test doc_comments

deny: ## licences, sources and duplicate versions of the dependencies (needs cargo-deny; advisories: `cargo deny check`)
	$(CARGO) deny check licenses bans sources

typos: ## spelling (needs typos-cli)
	typos

install-needs: ## the programs that demo and test run
	@sh tests/install-needs.sh

install-demo-needs:
	@sh tests/install-needs.sh demo

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds the engine with DPDK and tests the ports on DPDK's software devices. The engine is left at
# target/tested/dpdk/sluiced, and engine_dpdk.rs runs it: here with `all`, else among all other tests.
#
# usage: dpdk.sh [all]
# Built as everything else is for tests, so that only what depends on DPDK is compiled again.
set -eu
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
if ! pkg-config --exists 'libdpdk >= 22.11' 2>/dev/null; then
    echo "test-dpdk: libdpdk 22.11 or later is not here (Debian: libdpdk-dev, libclang-dev, pkg-config)" >&2
    exit 1
fi
export RUSTC_WRAPPER="$PWD/dataplane/dpdk/rustc.sh"
$cargo build --locked --workspace --features sluiced/mutations,sluiced/dpdk --bin sluiced
mkdir -p "$target/tested/dpdk"
# A copy, as the next build of the engine takes its place. Removed first: a test may run the old one.
rm -f "$target/tested/dpdk/sluiced"
cp "$target/x86_64-unknown-linux-gnu/debug/sluiced" "$target/tested/dpdk/sluiced"
$cargo test --locked -p sluice-dpdk --features libdpdk --tests -- --test-threads=2
if [ "${1:-}" = all ]; then
    unset RUSTC_WRAPPER
    # The engine of all other tests, which has just been replaced.
    $cargo build --locked --workspace --features sluiced/mutations --bin sluiced --bin sluicectl
    if [ -z "${SLUICE_BIN_DIR:-}" ]; then
        for program in sluiced sluicectl; do
            rm -f "$target/tested/$program"
            cp "$target/x86_64-unknown-linux-gnu/debug/$program" "$target/tested/"
        done
        export SLUICE_BIN_DIR="$target/tested"
    fi
    SLUICE_DPDK_SLUICED="$target/tested/dpdk/sluiced" \
        $cargo test --locked --workspace --features sluiced/mutations --test engine_dpdk
fi

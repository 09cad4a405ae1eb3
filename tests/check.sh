#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs the tests that need neither root nor a rig: those of every crate, golden captures, the list of CNI cases.
# What a test skips here is for tests/run.sh to run.
set -eu
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
SLUICE_SKIP_LOG=$(mktemp)
export SLUICE_SKIP_LOG
trap 'rm -f "$SLUICE_SKIP_LOG"' EXIT
trap 'exit 130' INT TERM HUP
status=0
set --
for file in ring/tests/*.rs vfio/tests/*.rs cni/tests/*.rs fuzz/tests/*.rs dataplane/*/tests/*.rs tests/sources/tests/*.rs \
    tests/tests/golden.rs; do
    [ -f "$file" ] || continue
    name=${file##*/}
    set -- "$@" --test "${name%.rs}"
done
# The whole workspace with the features of the whole run, so that both share one build: with fewer packages, cargo
# would build many dependencies again for fewer features.
$cargo test --locked --workspace --features sluiced/mutations --lib --bins "$@" || status=$?
sort -u "$SLUICE_SKIP_LOG" | sed 's/^/skipped here: /'
exit $status

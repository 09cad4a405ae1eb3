#!/bin/sh
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
# The features of the whole run, so that both share one build. Benches and rigs stay out.
$cargo test --locked --workspace --features sluiced/mutations --exclude sluice-tests --exclude sluice-benches || status=$?
[ $status != 0 ] || $cargo test --locked --workspace --features sluiced/mutations --test golden || status=$?
sort -u "$SLUICE_SKIP_LOG" | sed 's/^/skipped here: /'
exit $status

#!/bin/sh
# Builds the binaries, runs every test against them, and says how many of the tests listed ran. A
# test that did not run must be named with its reason in tests/skips.txt.
set -eu
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export SLUICE_SKIP_LOG="$work/skips"
: >"$SLUICE_SKIP_LOG"

step() { printf '\n== %s\n' "$*" >&2; }

step "building the binaries that the tests execute"
$cargo build --release --locked --bins --examples

step "building the engine whose checks can be taken out"
# With the whole workspace, or every dependency would be built once more for it alone.
$cargo build --locked --workspace --bins --features sluiced/mutations
mkdir -p target/mutated
cp "${CARGO_TARGET_DIR:-target}/debug/sluiced" target/mutated/sluiced
SLUICE_MUTATED=$(realpath target/mutated/sluiced)
export SLUICE_MUTATED

step "listing the tests"
$cargo test --locked --workspace --no-run
$cargo test --locked --workspace -- --list --format terse 2>/dev/null >"$work/list"
listed=$(grep -c ': test$' "$work/list" || true)

step "what the cluster's cases need"
if sh tests/cluster/needs.sh target/cluster; then
    SLUICE_CLUSTER=$(realpath target/cluster/bin)
    export SLUICE_CLUSTER
fi

step "what this machine has before the tests"
sh tests/leftovers.sh >"$work/before"

step "running $listed tests"
status=0
# Tests that make network namespaces and start engines share two cores with them: a few at a time.
$cargo test --locked --workspace --no-fail-fast -- --test-threads="${SLUICE_TEST_THREADS:-4}" \
    >"$work/output" 2>&1 || status=$?
cat "$work/output"

step "models of the rings and of what workers share"
RUSTFLAGS="--cfg loom ${RUSTFLAGS:-}" CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/loom" \
    sh -c "$cargo test --release --locked -p sluice-ring --test loom && $cargo test --release --locked -p sluice-mem --lib models" \
    >"$work/models" 2>&1 || status=$?
cat "$work/models"

step "the cases over real VFs"
sh tests/sriov/run.sh >"$work/sriov" 2>&1 || status=$?
cat "$work/sriov"

step "what the tests left behind"
sh tests/leftovers.sh >"$work/after"
if ! diff "$work/before" "$work/after" >"$work/left"; then
    echo "left behind (>) or taken away (<):"
    cat "$work/left"
    status=1
else
    echo "nothing"
fi

# A test that starts itself as another process prints a result of its own, with the others filtered
# out: that is not a run of this run.
sum() {
    grep -h '^test result.* 0 filtered out' "$1" | sed -E "s/.* ([0-9]+) $2.*/\1/" |
        awk '{n+=$1} END {print n+0}'
}
passed=$(sum "$work/output" passed)
failed=$(sum "$work/output" failed)
ignored=$(sum "$work/output" ignored)
# Those of a crate beside its other tests are picked out by name: counted one by one.
models=$(grep -c '^test .* \.\.\. ok$' "$work/models" || true)
vf_cases=$(tail -1 "$work/sriov" | sed -nE 's/^([0-9]+) passed, .*/\1/p')
vf_skipped=$(tail -1 "$work/sriov" | sed -nE 's/.* ([0-9]+) skipped$/\1/p')
vf_failed=$(tail -1 "$work/sriov" | sed -nE 's/.* passed, ([0-9]+) failed.*/\1/p')
sort -u "$SLUICE_SKIP_LOG" >"$work/skipped"
skipped=$(wc -l <"$work/skipped")

step "tally"
ran=$((passed + failed))
failed=$((failed + ${vf_failed:-1}))
echo "tests run: $ran of $listed listed, $models models and ${vf_cases:-0} cases over VFs"
if [ "$ran" != "$listed" ]; then
    echo "not every test listed has run: see above for the one that ended its program"
    status=1
fi
while IFS= read -r line; do
    name=${line%%:*}
    if grep -q "^$name:" tests/skips.txt 2>/dev/null; then
        echo "skipped as tests/skips.txt says: $line"
    else
        echo "skipped without leave: $line"
        status=1
    fi
done <"$work/skipped"
if [ "$ignored" != 0 ]; then
    echo "$ignored tests are marked #[ignore]: a skip must be said aloud instead"
    status=1
fi
# A Rust test that skips counts as passed there; a case over VFs does not.
echo "$((passed + models + ${vf_cases:-0} + ${vf_skipped:-0} - skipped)) passed, $failed failed, $skipped skipped"
exit "$status"

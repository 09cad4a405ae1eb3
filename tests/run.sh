#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds what the tests need, once, runs every test against it, and says how many of the tests listed ran. A
# test that did not run must be named with its reason in tests/skips.txt.
#
# usage: run.sh [--landing]
# --landing: also checks as `make lint` does and runs each fuzz target for FUZZ_SECONDS, beside the rest.
#
# What keeps one core busy or waits for the network runs in the background: packages and Kubernetes beside
# the builds, the virtual machine beside builds, models and fuzzing. The tests themselves run alone, since some
# of them hold the engine to deadlines and rates. Each part's output is shown as a whole when it has ended.
set -eu
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
landing=
case ${1:-} in
--landing) landing=1 ;;
'') ;;
*) sed -nE '/^# usage:/,/^# --landing/ s/^# ?//p' "$0" >&2; exit 2 ;;
esac
work=$(mktemp -d)
export SLUICE_SKIP_LOG="$work/skips"
: >"$SLUICE_SKIP_LOG"
status=0
# Where the part `needs` leaves the folder of the cluster's programs.
export CLUSTER="$work/cluster"

# Parts that run now: each in a session of its own, whose leader's pid is in $work/NAME.pid.
end() {
    # apt-get is never broken off.
    while [ -f "$work/needs.pid" ] && [ ! -f "$CLUSTER.packages" ] && kill -0 "$(cat "$work/needs.pid")" 2>/dev/null; do
        sleep 1
    done
    for file in "$work"/*.pid; do
        [ -f "$file" ] || continue
        kill -s TERM -- "-$(cat "$file")" 2>/dev/null || true
    done
    for file in "$work"/*.pid; do
        [ -f "$file" ] || continue
        wait "$(cat "$file")" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap end EXIT
trap 'exit 130' INT TERM HUP

# begin NAME COMMAND: starts a part in the background.
begin() {
    printf '\n== %s: begun\n' "$1" >&2
    date +%s >"$work/$1.begun"
    # shellcheck disable=SC2016
    setsid sh -c '
        status=0
        sh -c "$2" </dev/null >"$1.output" 2>&1 || status=$?
        times >"$1.times"
        date +%s >"$1.ended"
        exit $status' part "$work/$1" "$2" &
    echo $! >"$work/$1.pid"
}

# finish NAME: waits for a part, shows its output, and gives its exit code.
finish() {
    code=0
    wait "$(cat "$work/$1.pid")" || code=$?
    rm -f "$work/$1.pid"
    printf '\n== %s: %s\n' "$1" "$([ $code = 0 ] && echo done || echo "ended with $code")" >&2
    cat "$work/$1.output"
    echo "$1" >>"$work/parts"
    return $code
}

# part NAME COMMAND: both.
part() {
    begin "$1" "$2"
    finish "$1"
}

# The time that each part took, and how much of a processor it used.
table() {
    # shellcheck disable=SC2016
    while IFS= read -r name; do
        took=$(($(cat "$work/$name.ended") - $(cat "$work/$name.begun")))
        # The second line: user and system time of the part's children, as 1m2.3s.
        used=$(sed -n 2p "$work/$name.times" | tr 'ms' '  ' | awk '{print ($1 + $3) * 60 + $2 + $4}')
        echo "$name $took $used"
    done <"$work/parts" | awk '
        BEGIN { printf "%-14s %8s %12s\n", "step", "minutes", "cpu minutes" }
        { printf "%-14s %8.1f %12.1f\n", $1, $2 / 60, $3 / 60 }'
    echo "the whole run: $((($(date +%s) - start + 30) / 60)) minutes"
}
start=$(date +%s)

# Packages first, since a snapshot of the machine is taken below; then kube-apiserver and kubelet, which take
# minutes unless the cache has them, in whatever time the builds leave.
begin needs 'sh tests/sriov/needs.sh "$(sh tests/cache.sh)/sriov" || true
    sh tests/cluster/needs.sh packages || true
    : >"$CLUSTER.packages"
    sh tests/manifests/needs.sh >/dev/null || true
    nice -n 15 sh tests/cluster/needs.sh >"$CLUSTER"'

if [ "$landing" ]; then
    # While these fail nothing else is worth its time.
    part format "$cargo fmt --all --check" || exit 1
    part clippy "$cargo clippy --locked --workspace --all-targets -- -D warnings" || exit 1
fi

# One build for all: the programs that tests execute and the tests themselves have one profile and one set of
# features, or most packages would be compiled twice. It has overflow checks and debug assertions, unlike a
# release. `mutations` lets a test take one check out of the engine by a variable, and does nothing else.
features="--features sluiced/mutations"
part build "$cargo test --locked --workspace $features --no-run &&
    $cargo build --locked --workspace $features --bins --examples" || exit 1
# Copies: what cargo does in its folder from now on must not reach a program that a test executes.
tested=$target/tested
rm -rf "$tested"
mkdir -p "$tested/examples"
programs() { find "$1" -maxdepth 1 -type f -perm -u+x ! -name '*.*' ! -name '*-????????????????' -exec cp {} "$2" \;; }
built=$target/x86_64-unknown-linux-gnu/debug
programs "$built" "$tested"
programs "$built/examples" "$tested/examples"
export SLUICE_BIN_DIR="$tested" SLUICE_MUTATED="$tested/sluiced"

$cargo test --locked --workspace $features -- --list --format terse 2>/dev/null >"$work/list"
listed=$(grep -c ': test$' "$work/list" || true)

while [ ! -f "$CLUSTER.packages" ] && kill -0 "$(cat "$work/needs.pid")" 2>/dev/null; do
    sleep 1
done
sh tests/leftovers.sh >"$work/before"

# The machine goes before what is built beside it: its cases have deadlines.
begin sriov 'sh tests/sriov/run.sh'
# Ten minutes of an engine's life at random; a moment of it is among the tests too.
begin life "SLUICE_LIFE_SECONDS=${SLUICE_LIFE_SECONDS:-600} nice -n 5 $cargo test --locked --workspace $features --test whole_life -- --nocapture"
part models "nice -n 10 sh tests/models.sh" || status=1
if [ "$landing" ]; then
    part rustdoc "RUSTDOCFLAGS='-D warnings' nice -n 10 $cargo doc --locked --workspace --no-deps" || status=1
    part fuzz "FUZZ_SECONDS=${FUZZ_SECONDS:-20} FUZZ_PROFILE=dev nice -n 10 sh fuzz/run.sh" || status=1
fi
# Beside the virtual machine too, which takes longer than all of this.
if pkg-config --exists 'libdpdk >= 22.11' 2>/dev/null; then
    part dpdk "nice -n 10 sh tests/dpdk.sh" || status=1
fi
if finish needs; then
    SLUICE_CLUSTER=$(cat "$CLUSTER")
    export SLUICE_CLUSTER
fi
# A test of minutes that mostly waits; two kubelets at once would end each other's pods, so it goes before the rest.
alone=from_a_bare_node_to_a_pod_behind_its_firewall
begin cluster "$cargo test --locked --workspace $features --test on_a_cluster"
finish sriov || status=$?
finish life || status=$?
finish cluster || status=$?

printf '\n== %s tests\n' "$listed" >&2
# Tests that make network namespaces and start engines share two cores with them: a few at a time.
part tests "$cargo test --locked --workspace $features --no-fail-fast -- --test-threads=${SLUICE_TEST_THREADS:-4} --skip $alone" ||
    status=$?

printf '\n== what the tests left behind\n' >&2
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
    cat "$work/tests.output" "$work/cluster.output" |
        sed -nE "/^test result.* 0 filtered out/ s/.* ([0-9]+) $1.*/\1/p" | awk '{n+=$1} END {print n+0}'
}
passed=$(sum passed)
failed=$(sum failed)
ignored=$(sum ignored)
# Those of a crate beside its other tests are picked out by name: counted one by one.
models=$(grep -c '^test .* \.\.\. ok$' "$work/models.output" || true)
vf_cases=$(tail -1 "$work/sriov.output" | sed -nE 's/^([0-9]+) passed, .*/\1/p')
vf_skipped=$(tail -1 "$work/sriov.output" | sed -nE 's/.* ([0-9]+) skipped$/\1/p')
vf_failed=$(tail -1 "$work/sriov.output" | sed -nE 's/.* passed, ([0-9]+) failed.*/\1/p')
sort -u "$SLUICE_SKIP_LOG" >"$work/skipped"
skipped=$(wc -l <"$work/skipped")

printf '\n== tally\n' >&2
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
if [ "$models" = 0 ]; then
    echo "no model has run"
    status=1
fi
# A Rust test that skips counts as passed there; a case over VFs does not.
echo "$((passed + models + ${vf_cases:-0} + ${vf_skipped:-0} - skipped)) passed, $failed failed, $skipped skipped"
echo
table
exit "$status"

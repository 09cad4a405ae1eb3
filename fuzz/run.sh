#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs every fuzz target, or those named, for FUZZ_SECONDS each (60), FUZZ_JOBS of them at once (2). FUZZ_PROFILE=dev
# builds sooner what runs slower. The corpus of a target is kept in target/fuzz/corpus. Inputs that fail are kept in
# target/fuzz/found and named; put them into fuzz/found/<target>, where `cargo test` tries them from then on.
set -eu
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
seconds=${FUZZ_SECONDS:-60}
[ $# -gt 0 ] || set -- frame messages ring policy cni attach
# Unoptimised: it only calls cargo and the targets.
command -v cargo-fuzz >/dev/null || $cargo install cargo-fuzz --locked --debug
# Sanitizers need a nightly compiler, or one that is told to be as lenient as one.
if rustup toolchain list 2>/dev/null | grep -q '^nightly'; then
    export RUSTUP_TOOLCHAIN=nightly
else
    export RUSTC_BOOTSTRAP=1
fi
work=$(realpath -m target/fuzz)
profile=--release
[ "${FUZZ_PROFILE:-release}" = release ] || profile=--dev
echo "building the targets" >&2
$cargo fuzz build $profile --fuzz-dir fuzz/targets --target-dir "$work/build"

# run TARGET: leaves `ok` or `FAILED` in its result file.
run() {
    mkdir -p "$work/corpus/$1" "$work/found/$1" "fuzz/seeds/$1"
    folders="$work/corpus/$1 fuzz/seeds/$1"
    [ ! -d "fuzz/found/$1" ] || folders="$folders fuzz/found/$1"
    result=ok
    # shellcheck disable=SC2086
    $cargo fuzz run $profile --fuzz-dir fuzz/targets --target-dir "$work/build" "$1" $folders -- \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="$work/found/$1/" >"$work/$1.log" 2>&1 || result=FAILED
    echo "$result" >"$work/$1.result"
}
# All take the same time: a batch is waited for as a whole.
batch=0
for name in "$@"; do
    rm -f "$work/$name.result"
    run "$name" &
    batch=$((batch + 1))
    if [ $batch -ge "${FUZZ_JOBS:-2}" ]; then
        wait
        batch=0
    fi
done
wait

status=0
printf '%-10s %12s %10s %8s  %s\n' target runs 'a second' covered result
for name in "$@"; do
    stat() { sed -nE "s/^stat::$1: *//p" "$work/$name.log" | tail -1; }
    covered=$(sed -nE 's/.* cov: ([0-9]+) .*/\1/p' "$work/$name.log" | tail -1)
    result=$(cat "$work/$name.result" 2>/dev/null || echo FAILED)
    printf '%-10s %12s %10s %8s  %s\n' "$name" "$(stat number_of_executed_units)" \
        "$(stat average_exec_per_sec)" "${covered:--}" "$result"
    if [ "$result" != ok ]; then
        status=1
        grep -E 'panicked|ERROR|Test unit written' "$work/$name.log" || tail -20 "$work/$name.log"
    fi
done
exit $status

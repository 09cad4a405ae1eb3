#!/bin/sh
# Runs every fuzz target, or those named, for FUZZ_SECONDS each (a minute). What a target has learnt is kept in
# target/fuzz/corpus; what it found is told of by path, and belongs into fuzz/found/<target>, where
# `cargo test` tries it from then on.
set -eu
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
seconds=${FUZZ_SECONDS:-60}
[ $# -gt 0 ] || set -- frame messages ring policy cni attach
command -v cargo-fuzz >/dev/null || $cargo install cargo-fuzz --locked
# Sanitizers need a nightly compiler, or one that is told to be as lenient as one.
if rustup toolchain list 2>/dev/null | grep -q '^nightly'; then
    export RUSTUP_TOOLCHAIN=nightly
else
    export RUSTC_BOOTSTRAP=1
fi
work=$(realpath -m target/fuzz)
fuzz() { $cargo fuzz "$@"; }
echo "building the targets" >&2
fuzz build --fuzz-dir fuzz/targets --target-dir "$work/build"
status=0
printf '%-10s %12s %10s %8s  %s\n' target runs 'a second' covered result
for name in "$@"; do
    mkdir -p "$work/corpus/$name" "$work/found/$name" "fuzz/seeds/$name"
    folders="$work/corpus/$name fuzz/seeds/$name"
    [ ! -d "fuzz/found/$name" ] || folders="$folders fuzz/found/$name"
    result=good
    # shellcheck disable=SC2086
    fuzz run --fuzz-dir fuzz/targets --target-dir "$work/build" "$name" $folders -- \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="$work/found/$name/" >"$work/$name.log" 2>&1 || result=FOUND
    stat() { sed -nE "s/^stat::$1: *//p" "$work/$name.log" | tail -1; }
    covered=$(sed -nE 's/.* cov: ([0-9]+) .*/\1/p' "$work/$name.log" | tail -1)
    printf '%-10s %12s %10s %8s  %s\n' "$name" "$(stat number_of_executed_units)" \
        "$(stat average_exec_per_sec)" "${covered:--}" "$result"
    if [ "$result" != good ]; then
        status=1
        grep -E 'panicked|ERROR|Test unit written' "$work/$name.log" || tail -20 "$work/$name.log"
    fi
done
exit $status

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs the SR-IOV cases in a virtual machine or, with SLUICEGATE_PF (and SLUICEGATE_WIRE, the netdev at the other
# end of its cable), on this machine's hardware. Arguments go to the cases' program:
# `tests/sriov/run.sh --only kernel`. With SLUICE_BIN_DIR, the programs there are tested, else a release build.
set -eu
cd "$(dirname "$0")/../.."
cargo=${CARGO:-cargo}
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")

if [ -z "${SLUICEGATE_PF:-}" ]; then
    status=0
    mkdir -p target
    sh tests/sriov/needs.sh "${SLUICE_SRIOV_CACHE:-$(sh tests/cache.sh)/sriov}" 2>target/sriov-needs.log || status=$?
    cat target/sriov-needs.log >&2
    if [ "$status" = 3 ]; then
        reason=$(tail -1 target/sriov-needs.log)
        echo "SKIP test-sriov: $reason"
        [ -z "${SLUICE_SKIP_LOG:-}" ] || echo "test-sriov: $reason" >>"$SLUICE_SKIP_LOG"
        echo "0 passed, 0 failed, 1 skipped"
        exit 0
    fi
    [ "$status" = 0 ] || exit "$status"
fi
if [ -z "${SLUICE_BIN_DIR:-}" ]; then
    sh tests/install-needs.sh
    $cargo build --release --locked --bins --examples
fi
bin=${SLUICE_BIN_DIR:-$target/x86_64-unknown-linux-gnu/release}

if [ -n "${SLUICEGATE_PF:-}" ]; then
    exec sh tests/as-root.sh env SLUICEGATE_PF="$SLUICEGATE_PF" SLUICEGATE_WIRE="${SLUICEGATE_WIRE:-}" \
        "$bin/sriov-cases" --results target/sriov/results.json "$@"
fi

out=target/sriov/out
mkdir -p "$out"
rm -f "$out/results.json"
# Kubernetes takes minutes to build where the cache has none, and a run of all tests builds it beside this: the
# cases that need it run in a machine after that, then.
later=
SLUICE_SRIOV_API=
SLUICE_SRIOV_NETNS=
SLUICE_CLUSTER=
export SLUICE_CLUSTER SLUICE_SRIOV_API SLUICE_SRIOV_NETNS
# kube-apiserver on this machine, in a network namespace of its own, until descriptor 8 is closed.
serve() {
    SLUICE_CLUSTER=$(sh tests/cluster/needs.sh) || { SLUICE_CLUSTER=; return; }
    server=$(realpath "$out")/kube
    rm -rf "$server"
    mkdir -p "$server"
    mkfifo "$server/hold"
    "$bin/sriov-cases" --api-server "$server" <"$server/hold" >"$out/kube.log" 2>&1 &
    pid=$!
    exec 8>"$server/hold"
    while [ ! -f "$server/netns" ]; do
        kill -0 "$pid" 2>/dev/null || { cat "$out/kube.log"; exit 1; }
        sleep 0.2
    done
    SLUICE_SRIOV_API=$server
    SLUICE_SRIOV_NETNS=$(cat "$server/netns")
}
if [ "$(id -u)" = 0 ]; then
    cluster=$(sh tests/cache.sh)/kubernetes-1.20.2-2/bin
    if [ -x "$cluster/kubelet" ]; then serve; else later=1; fi
fi
# Emulation may freeze a machine whatever runs in it: the next machine continues with the cases that are not done.
# A case that loses two machines has failed.
end=$(($(date +%s) + ${SLUICE_SRIOV_LIMIT:-2700}))
machine=1
while :; do
    status=0
    left=$((end - $(date +%s)))
    [ "$left" -gt 0 ] || left=1
    sh tests/sriov/vm.sh run --out "$out" --limit "$left" -- \
        "$bin/sriov-cases" --vm --wire wire0 --results "$(realpath "$out")/results.json" --resume \
        ${later:+--without-cluster} "$@" 8>&- ||
        status=$?
    if [ -n "$later" ] && [ "$status" -le 1 ]; then
        later=
        serve
        continue
    fi
    [ "$status" = 125 ] && [ "$machine" -lt 4 ] || break
    echo "the virtual machine is lost; starting another one for the remaining cases"
    machine=$((machine + 1))
done
if [ -n "$SLUICE_SRIOV_API" ]; then
    exec 8>&-
    wait "$pid" || true
    # Its namespace is gone: the machines that follow are in this one.
    SLUICE_SRIOV_API=
    SLUICE_SRIOV_NETNS=
fi
case $status in
124) echo "the virtual machine exceeded the limit of SLUICE_SRIOV_LIMIT seconds" ;;
125) echo "the last virtual machine was lost as well" ;;
esac
# A run without results has passed nothing.
if [ ! -f "$out/results.json" ]; then
    [ "$status" != 0 ] || status=1
    echo "0 passed, 1 failed, 0 skipped"
    exit "$status"
fi
# What no case can do in one machine: a reboot.
booted=0
unbooted=0
if [ $# -eq 0 ]; then
    if sh tests/sriov/reboot.sh "$bin" target/sriov/reboot; then
        booted=1
    else
        unbooted=1
        status=1
    fi
fi
# Repeated as the last line, since the guest's kernel may have written to the console after it.
count() { grep -c "\"outcome\": \"$1\"" "$out/results.json" || true; }
echo "$(($(count passed) + booted)) passed, $(($(count failed) + $(count lost) + unbooted)) failed, $(count skipped) skipped"
exit "$status"

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs one command in a virtual machine: a node with four SR-IOV NICs (Intel 82576, emulated by QEMU), without KVM.
# Its root is this machine's, read-only and overlaid with a tmpfs, so everything installed or built here is there
# under the same path. What the command writes is lost afterwards, except in the output folder.
#
# usage: vm.sh run [--vfs [PF=]N]... [--out FOLDER] [--limit SECONDS] [--hugepages N] [--] COMMAND...
# Ends with the command's exit code; 124 when the limit ran out, 125 when the machine froze or ended
# without one; 3 when there can be no virtual machine here (standard error says why).
#
# In the guest: the PFs enp12s0f0, enp12s0f1, enp2s0 and enp4s0f3 up under `igb`, with wire0 to wire3 at
# the other ends of their cables (raw netdevs, promiscuous, without addresses), vfio-pci and igbvf loaded,
# N VFs (of enp12s0f0 unless named) on igbvf, hugepages of 2 MB mounted on /dev/hugepages. With SLUICE_SRIOV_NETNS,
# the name of a network namespace here, also api0, through which 10.0.2.2 is that namespace's loopback address.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)
cache=${SLUICE_SRIOV_CACHE:-$(sh "$repository/tests/cache.sh")/sriov}
PATH=$PATH:/usr/sbin:/sbin

usage() {
    sed -nE '/^# usage:/,/^set/ s/^# ?//p' "$0" >&2
    exit 2
}
[ "${1:-}" = run ] || usage
shift
vfs=
out=
limit=600
hugepages=384
while [ $# -gt 0 ]; do
    case $1 in
    --vfs)
        case $2 in *=*) vfs="$vfs $2" ;; *) vfs="$vfs enp12s0f0=$2" ;; esac
        shift 2 ;;
    --out) out=$2; shift 2 ;;
    --limit) limit=$2; shift 2 ;;
    --hugepages) hugepages=$2; shift 2 ;;
    --) shift; break ;;
    -*) usage ;;
    *) break ;;
    esac
done
[ $# -gt 0 ] || usage

mkdir -p "$cache"
# Several machines started at once prepare one after the other.
exec 9>"$cache/lock"
flock 9
sh "$here/needs.sh" "$cache" 9>&-
sh "$here/initramfs.sh" "$cache" 9>&-
exec 9>&-

work=
if [ -z "$out" ]; then
    work=$(mktemp -d)
    out=$work
fi
mkdir -p "$out"
out=$(realpath "$out")
rm -f "$out/exit-code"
quote() {
    printf "'"
    printf %s "$1" | sed "s/'/'\\\\''/g"
    printf "'"
}
{
    for variable in SLUICE_BIN_DIR SLUICE_CLUSTER SLUICE_SRIOV_API RUST_LOG RUST_BACKTRACE; do
        eval "value=\${$variable:-}"
        [ -z "$value" ] || echo "export $variable=$(quote "$value")"
    done
    printf exec
    for word in "$@"; do
        printf ' %s' "$(quote "$word")"
    done
    echo
} >"$out/command"
{
    echo "VFS=$(quote "$vfs")"
    echo "HUGEPAGES=$hugepages"
    echo "DIRECTORY=$(quote "$PWD")"
} >"$out/settings"

kernel=$cache/kernel
release=$(cat "$kernel/release")
set --
index=0
while [ $index -lt 4 ]; do
    # A PF and the netdev at the other end of its cable are on one hub.
    set -- "$@" \
        -device "pcie-root-port,id=port$index,slot=$index,chassis=$index" \
        -netdev "hubport,id=pf$index,hubid=$index" \
        -device "igb,bus=port$index,netdev=pf$index,mac=52:54:00:aa:00:0$((index + 1)),romfile=" \
        -netdev "hubport,id=wire$index,hubid=$index" \
        -device "virtio-net-pci,netdev=wire$index,mac=52:54:00:bb:00:0$((index + 1)),romfile="
    index=$((index + 1))
done
within=
if [ -n "${SLUICE_SRIOV_NETNS:-}" ]; then
    within="nsenter --net=/run/netns/$SLUICE_SRIOV_NETNS --"
    set -- "$@" -netdev user,id=api -device virtio-net-pci,netdev=api,mac=52:54:00:cc:00:01,romfile=
fi
end() {
    [ -z "${qemu:-}" ] || kill "$qemu" 2>/dev/null || true
    [ -z "$work" ] || rm -rf "$work"
}
trap end EXIT
trap 'exit 130' INT TERM HUP
# The machine ends with this script, however the script ends. Its memory stays below 4 GB: with more, igb misses
# mailbox messages of its VFs (the interrupt comes once and never again).
boot() {
    rm -f "$out/exit-code" "$out/up" "$out/alive"
    # shellcheck disable=SC2086
    $within setpriv --pdeathsig KILL timeout -k 5 "$limit" setpriv --pdeathsig KILL \
        qemu-system-x86_64 -machine q35,kernel-irqchip=split -accel tcg,thread=multi -cpu max -smp 2 -m 2560M \
        -nodefaults -display none -serial stdio -no-reboot \
        -kernel "$kernel/boot/vmlinuz-$release" -initrd "$cache/initrd.gz" \
        -append "console=ttyS0 intel_iommu=on iommu=pt quiet loglevel=3 panic=-1 net.ifnames=0 sluicegate.guest=$here/guest.sh sluicegate.out=$out sluicegate.kernel=$kernel" \
        -device intel-iommu,intremap=on \
        "$@" \
        -virtfs local,path=/,mount_tag=hostroot,security_model=none,readonly=on,multidevs=remap \
        -virtfs "local,path=$out,mount_tag=out,security_model=none,multidevs=remap" \
        -device virtio-rng-pci </dev/null 2>"$out/qemu.log" &
    qemu=$!
}
# An emulated kernel sometimes hangs before init: such a machine is restarted.
tries=1
boot "$@"
waited=0
while [ ! -f "$out/up" ] && kill -0 "$qemu" 2>/dev/null; do
    sleep 1
    waited=$((waited + 1))
    [ $waited -ge "${SLUICE_SRIOV_BOOT:-150}" ] || continue
    kill -KILL "$qemu" 2>/dev/null || true
    wait "$qemu" 2>/dev/null || true
    qemu=
    [ $tries -lt 3 ] || break
    echo "the virtual machine did not come up in $waited s; restarting it" >&2
    tries=$((tries + 1))
    waited=0
    boot "$@"
done
# From then on the guest writes a heartbeat. Without one, its kernel or the emulation is frozen, and the machine is
# ended.
frozen=
while [ -n "$qemu" ] && kill -0 "$qemu" 2>/dev/null; do
    sleep 1
    last=$(stat -c %Y "$out/alive" 2>/dev/null || stat -c %Y "$out/up" 2>/dev/null || date +%s)
    [ $(($(date +%s) - last)) -ge "${SLUICE_SRIOV_FROZEN:-120}" ] || continue
    frozen=1
    # QEMU ends with `timeout`, its parent, whatever its state.
    kill -KILL "$qemu" 2>/dev/null || true
    break
done
status=125
if [ -n "$qemu" ]; then
    status=0
    wait "$qemu" || status=$?
fi
qemu=
if [ -n "$frozen" ] && [ ! -f "$out/exit-code" ]; then
    echo "the virtual machine gave no sign of life for ${SLUICE_SRIOV_FROZEN:-120} s and was ended" >&2
    status=125
fi
if [ -f "$out/exit-code" ]; then
    status=$(cat "$out/exit-code")
elif [ "$status" != 124 ]; then
    cat "$out/qemu.log" >&2
    echo "the virtual machine ended without a result" >&2
    status=125
fi
exit "$status"

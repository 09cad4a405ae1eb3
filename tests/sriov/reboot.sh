#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Boots the virtual machine twice with the same vfs.yaml and the same state folder, and has
# `sluicectl vfs create` make the VFs each time, as sluicegate-vfs.service does, before the engine starts.
#
# usage: reboot.sh BIN OUT
set -eu
here=$(cd "$(dirname "$0")" && pwd)
bin=$(realpath "$1")
mkdir -p "$2"
out=$(realpath "$2")
rm -rf "$out/state" "$out/etc"
mkdir -p "$out/state" "$out/etc/policies"
echo 'vfs: [{pf: enp12s0f0, count: 3}, {pf: enp2s0, count: 1}]' >"$out/etc/vfs.yaml"
cat >"$out/etc/sluiced.yaml" <<EOT
workers: {count: 1, pin: false}
memory: {small_mbufs: 4096, large_mbufs: 256}
policies: $out/etc/policies
state_dir: $out/state
run_dir: /run/sluicegate
EOT
cat >"$out/boot.sh" <<EOT
set -ex
ctl="$bin/sluicectl"
create="\$ctl vfs create --from $out/etc/vfs.yaml --state-dir $out/state --wait 30"
count() { cat /sys/class/net/\$1/device/sriov_numvfs; }
[ "\$(count enp12s0f0) \$(count enp2s0)" = "0 0" ]
\$create
[ "\$(count enp12s0f0) \$(count enp2s0)" = "3 1" ]
\$create | tee /tmp/again
[ "\$(grep -c 'has its' /tmp/again)" = 2 ]
"$bin/sluiced" --config $out/etc/sluiced.yaml 2>/tmp/sluiced.log &
engine=\$!
for second in \$(seq 120); do \$ctl status >/dev/null 2>&1 && break; sleep 1; done
# The engine misses no VF; with one PF short it says so.
sleep 6
if \$ctl --json status | grep 'vfs create'; then exit 1; fi
ip netns add pod
export CNI_CONTAINERID=\$(cat /proc/sys/kernel/random/uuid) CNI_NETNS=/run/netns/pod CNI_IFNAME=net1 CNI_PATH=/usr/lib/cni
echo '{"cniVersion": "1.1.0", "name": "n", "type": "sluicegate-vf", "mode": "engine", "if0": "enp12s0f0", "vf": 0,
    "stateDir": "$out/state", "cniDir": "/run/cni"}' >/tmp/conf
CNI_COMMAND=ADD "$bin/sluicegate-vf" </tmp/conf
# The machine goes down with the attachment on record.
[ "\$(ls $out/state/vfs/*.json | wc -l)" = 1 ]
if \$ctl vfs create enp12s0f0 2 --state-dir $out/state; then exit 1; fi
\$ctl vfs create enp2s0 0 --state-dir $out/state
for second in \$(seq 60); do \$ctl --json status | grep 'PF enp2s0 has 0 of 1 VFs' && break; sleep 1; done
\$ctl --json status | grep 'PF enp2s0 has 0 of 1 VFs'
kill -KILL \$engine
cat /tmp/sluiced.log
EOT
# both: the two boots, from an empty state folder. Gives the exit code of the machine.
both() {
    rm -rf "$out/state"
    mkdir -p "$out/state"
    for boot in first second; do
        echo "== $boot boot"
        sh "$here/vm.sh" run --out "$out" --limit 600 -- sh "$out/boot.sh" || return
    done
}
# Emulation may freeze a machine whatever runs in it, which says nothing: then all begins again.
for left in 2 1 0; do
    status=0
    both || status=$?
    [ "$status" = 125 ] && [ "$left" != 0 ] || break
    echo "the virtual machine is lost; the boots begin again"
done
if [ "$status" != 0 ]; then
    echo "reboot: FAILED at the $boot boot"
    exit 1
fi
echo "reboot: passed"

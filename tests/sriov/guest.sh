# SPDX-License-Identifier: Apache-2.0
# Init of the guest (pid 1), started by initramfs.sh on the host's root. Makes the machine a node (modules,
# hugepages, PFs under the names that the cases use, VFs), runs the given command and powers off.
# shellcheck shell=sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LC_ALL=C.UTF-8
for word in $(cat /proc/cmdline); do
    case $word in
    sluicegate.out=*) out=${word#*=} ;;
    sluicegate.kernel=*) kernel=${word#*=} ;;
    esac
done
off() {
    # No program can be started from here on: the root goes away.
    sync
    echo o >/proc/sysrq-trigger
    while :; do :; done
}
mkdir -p /dev/pts /dev/shm /dev/hugepages
mount -t devpts -o ptmxmode=0666 devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
mkdir -p /run/lock /run/netns
# /var/run must be /run, as iproute2 and the runtimes take it to be.
[ "$(readlink -f /var/run)" = /run ] || mount --bind /run /var/run
# State of the host is not this node's.
for folder in /var/lib/sluicegate /var/lib/cni /etc/sluicegate; do
    [ ! -d "$folder" ] || mount -t tmpfs none "$folder"
done
mkdir -p /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup 2>/dev/null
mkdir -p "$out"
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=none out "$out" || off
mkdir -p /lib/modules
mount --bind "$kernel/lib/modules" /lib/modules
hostname sriov-node
ip link set lo up
for module in af_packet virtio_net igb vfio-pci igbvf 8021q tun; do
    modprobe "$module" || echo "guest: cannot load module $module"
done
name() {
    for netdev in /sys/class/net/*; do
        if [ "$(cat "$netdev/address" 2>/dev/null)" = "$1" ]; then
            ip link set "${netdev##*/}" name "$2" && ip link set "$2" up && return
        fi
    done
    echo "guest: no netdev has the MAC $1, which is for $2"
}
index=1
for pf in enp12s0f0 enp12s0f1 enp2s0 enp4s0f3; do
    # Without IPv6 the node sends no neighbour discovery of its own.
    name "52:54:00:aa:00:0$index" "$pf"
    name "52:54:00:bb:00:0$index" "wire$((index - 1))"
    for netdev in "$pf" "wire$((index - 1))"; do
        echo 1 >"/proc/sys/net/ipv6/conf/$netdev/disable_ipv6"
    done
    ip link set "wire$((index - 1))" promisc on
    index=$((index + 1))
done
if grep -q 52:54:00:cc:00:01 /sys/class/net/*/address; then
    name 52:54:00:cc:00:01 api0
    ip address add 10.0.2.15/24 dev api0
fi
: >"$out/up"
# The console shows tasks that hang in the kernel for a minute, and processors that are stuck.
for setting in hung_task_timeout_secs=60 hung_task_warnings=20 softlockup_panic=1 hung_task_all_cpu_backtrace=0; do
    echo "${setting#*=}" >"/proc/sys/kernel/${setting%=*}" 2>/dev/null
done
# Heartbeat for vm.sh on the host.
(while :; do echo >"$out/alive"; sleep 5; done) &
beat=$!
# shellcheck source=/dev/null
. "$out/settings"
for vfs in $VFS; do
    echo "${vfs#*=}" >"/sys/class/net/${vfs%=*}/device/sriov_numvfs"
done
echo "$HUGEPAGES" >/proc/sys/vm/nr_hugepages
mount -t hugetlbfs hugetlbfs /dev/hugepages
ulimit -c 0
cd "$DIRECTORY" || off
echo "guest: up after $(cut -d' ' -f1 /proc/uptime) s"
sh "$out/command"
echo $? >"$out/exit-code"
kill $beat
dmesg >"$out/dmesg" 2>/dev/null
off

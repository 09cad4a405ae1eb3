#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs the programs that the demo and the tests run. Without apt, prints what is missing and how to get it.
#
# usage: install-needs.sh [demo]
# With `demo`, only those that the demo runs.
set -eu

# program or file : Debian package : what it is for
needs='
ip:iproute2:network namespaces and veth pairs
nft:nftables:keeping the host off an uplink
ethtool:ethtool:offloads of a veth in the tests
ping:iputils-ping:kernel traffic through a tap
radvd:radvd:a router that advertises prefixes
dnsmasq:dnsmasq-base:a DHCPv6 server
keepalived:keepalived:a virtual address that two pods share
dpdk-testpmd:dpdk-dev:the DPDK peer
/usr/lib/cni/bridge:containernetworking-plugins:the primary network of a pod
cc:gcc:linking
'
if [ "${1:-}" != demo ]; then
    needs="$needs
buildah:buildah:the image, without a daemon
/usr/include/dpdk/rte_eal.h:libdpdk-dev:the engine with DPDK
pkg-config:pkg-config:the engine with DPDK
/usr/lib/llvm-14/lib/libclang.so:libclang-dev:bindings of DPDK
/usr/lib/python3.11/ensurepip/__init__.py:python3-venv:checking manifests
systemd-analyze:systemd:checking units
promtool:prometheus:a check of metrics and alerts
/usr/lib/python3/dist-packages/prometheus_client/openmetrics/parser.py:python3-prometheus-client:another check of metrics
chromium:chromium:the page of the agent in a browser
"
fi

packages=
report=
old_ifs=$IFS
IFS='
'
for line in $needs; do
    program=${line%%:*}
    rest=${line#*:}
    package=${rest%%:*}
    purpose=${rest#*:}
    case $program in
    /*) test -e "$program" || missing=1 ;;
    *) PATH=$PATH:/usr/sbin:/sbin command -v "$program" >/dev/null 2>&1 || missing=1 ;;
    esac
    if [ "${missing:-0}" = 1 ]; then
        packages="$packages $package"
        report="$report
  $program ($purpose): package $package on Debian and Ubuntu"
    fi
    missing=0
done
IFS=$old_ifs

if [ -z "$packages" ]; then
    exit 0
fi
echo "missing programs:$report" >&2
if ! command -v apt-get >/dev/null 2>&1; then
    echo "install them with this system's package manager and run this again" >&2
    exit 1
fi
sudo=
if [ "$(id -u)" != 0 ]; then
    sudo=sudo
fi
echo "installing:$packages" >&2
export DEBIAN_FRONTEND=noninteractive
# No services: the tests start what they need, with state of their own.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
    $sudo chmod 755 "$policy"
    trap '$sudo rm -f "$policy"' EXIT
fi
# shellcheck disable=SC2086
$sudo apt-get -o DPkg::Lock::Timeout=300 update -qq
# shellcheck disable=SC2086
$sudo apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends $packages >/dev/null

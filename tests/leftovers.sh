#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Lists what a test might leave behind on this machine, one line each, sorted, to be compared before and after.
set -eu
{
    ip -o link show 2>/dev/null | awk '{print "link", $2}'
    ls /var/run/netns 2>/dev/null | sed 's/^/netns /'
    # A container runtime leaves the empty folder of its CNI cache: only files in it count.
    find /run/sluicegate /var/lib/sluicegate /var/lib/cni /etc/sluicegate -mindepth 1 \
        -not -path /var/lib/cni/results 2>/dev/null | sed 's/^/file /'
    find /dev/shm /dev/hugepages -mindepth 1 2>/dev/null | sed 's/^/file /'
    awk '/^HugePages_(Total|Free)/ {print "huge pages", $1, $2}' /proc/meminfo
    nft list tables 2>/dev/null | sed 's/^/nft /'
    for key in net.ipv4.ip_forward net.ipv6.conf.all.forwarding vm.nr_hugepages vm.overcommit_memory; do
        printf 'sysctl %s ' "$key"
        cat "/proc/sys/$(echo "$key" | tr . /)" 2>/dev/null || echo none
    done
    for exe in /proc/[0-9]*/exe; do
        target=$(readlink "$exe" 2>/dev/null) || continue
        case ${target##*/} in
        sluiced* | sluicectl* | sluicegate* | dpdk-testpmd* | vnf* | forward*) echo "process ${target##*/}" ;;
        esac
    done
} | sort

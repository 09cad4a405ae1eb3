#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes an image of DPDK's testpmd from this machine's package (dpdk-dev on Debian), as an OCI archive.
#
# usage: image.sh [FILE [TAG]]     default: target/image/testpmd.tar localhost/testpmd:1
set -eu
here=$(cd "$(dirname "$0")" && pwd)
checkout=$(cd "$here/../../.." && pwd)
out=$(realpath -m "${1:-$(realpath -m "${CARGO_TARGET_DIR:-$checkout/target}")/image/testpmd.tar}")
. "$here/../../image/parts.sh"
need buildah buildah
need dpdk-testpmd dpdk-dev
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP
root=$work/root
lay_out
with_libraries "$(command -v dpdk-testpmd)"
# Drivers are loaded by name at the start: of those, the two that it needs.
for driver in net_memif mempool_ring; do
    library=$(find /usr/lib/x86_64-linux-gnu/dpdk -name "librte_$driver.so" | head -1)
    [ "$library" ] || { echo "DPDK here has no driver $driver" >&2; exit 1; }
    with_libraries "$library"
done
pack "$here/Containerfile" "${2:-localhost/testpmd:1}" "$out"
echo "$out"

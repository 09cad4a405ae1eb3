#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds the programs of a node and puts them into target/dist, stripped: static, so that they start on any x86-64
# Linux. The plugins are not position-independent: a start is most of what they cost (cni/build.rs).
#
# usage: build.sh [--profile NAME] [--out FOLDER] [CARGO_OPTION...]
# NAME: release unless told otherwise; `dev` takes what the tests have built.
set -eu
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
profile=release
out=$target/dist
while [ $# -gt 0 ]; do
    case $1 in
    --profile) profile=$2; shift 2 ;;
    --out) out=$(realpath -m "$2"); shift 2 ;;
    -h | --help) sed -nE '/^# Builds/,/^$/ s/^# ?//p' "$0"; exit 0 ;;
    *) break ;;
    esac
done
folder=$profile
[ "$profile" != dev ] || folder=debug
built=$target/x86_64-unknown-linux-gnu/$folder

$cargo build --locked --profile "$profile" --workspace "$@" --bins --examples
mkdir -p "$out/examples"
# put FILE FOLDER: a copy under a name that no program has yet, then renamed: the one there may be running.
put() {
    strip -o "$2/.${1##*/}.new" "$1"
    mv -f "$2/.${1##*/}.new" "$2/${1##*/}"
}
for name in sluiced sluicectl sluice-agent vfirewall sluicegate sluicegate-vf; do
    put "$built/$name" "$out"
done
put "$built/examples/vnf" "$out/examples"
echo "$out"

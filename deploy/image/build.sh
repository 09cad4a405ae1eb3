#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes the image of a node's programs as an OCI archive, without a registry, a daemon or a network. Beside it: its
# parts (FILE.cdx.json, CycloneDX), the SHA-256 sums of both (FILE.sha256) and, with a key, their signature
# (FILE.sha256.sig). The same programs give the same image id, on whatever day.
#
# usage: build.sh [--programs FOLDER] [--out FILE] [--tag NAME] [--sign KEY]
# FOLDER: what deploy/build.sh has made; target/dist unless told otherwise.
# FILE:   target/image/sluicegate.tar unless told otherwise.
# NAME:   name and tag; localhost/sluicegate:VERSION unless told otherwise.
# KEY:    an ed25519 key, as `openssl genpkey -algorithm ed25519 -out KEY` makes one.
#
# Prints FILE. Needs buildah and, for `nft` and its libraries, Debian's nftables.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
checkout=$(cd "$here/../.." && pwd)
target=$(realpath -m "${CARGO_TARGET_DIR:-$checkout/target}")
version=$(sed -nE '/^\[workspace.package\]/,/^$/ s/^version = "(.*)"/\1/p' "$checkout/Cargo.toml")
programs=$target/dist
out=$target/image/sluicegate.tar
tag=localhost/sluicegate:$version
key=
while [ $# -gt 0 ]; do
    case $1 in
    --programs) programs=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    --tag) tag=$2; shift 2 ;;
    --sign) key=$(realpath "$2"); shift 2 ;;
    *) sed -nE '/^# Makes/,/^set/ s/^# ?//p' "$0" >&2; exit 2 ;;
    esac
done
programs=$(realpath "$programs")
out=$(realpath -m "$out")
. "$here/parts.sh"
need buildah buildah
need nft nftables
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP
root=$work/root
lay_out
for name in sluiced sluicectl sluice-agent vfirewall; do
    install -m 755 "$programs/$name" "$root/usr/bin/$name"
done
# Copied to the node by the agent, never executed here.
mkdir -p "$root/usr/lib/sluicegate"
for name in sluicegate sluicegate-vf; do
    install -m 755 "$programs/$name" "$root/usr/lib/sluicegate/$name"
done
# The engine runs it.
with_libraries "$(command -v nft)"
if [ "$(id -u)" = 0 ] && ! chroot "$root" /usr/sbin/nft --version >/dev/null; then
    echo "nft does not start in the image's root: a library is missing" >&2
    exit 1
fi
pack "$here/Containerfile" "$tag" "$out"
python3 "$here/sbom.py" --checkout "$checkout" --root "$root" --debian "$work/debian" --name "$tag" >"$work/image.cdx.json"
mv -f "$work/image.cdx.json" "$out.cdx.json"
rm -f "$out.sha256" "$out.sha256.sig"
(cd "${out%/*}" && sha256sum "${out##*/}" "${out##*/}.cdx.json" >"${out##*/}.sha256")
[ -z "$key" ] || openssl pkeyutl -sign -rawin -inkey "$key" -in "$out.sha256" -out "$out.sha256.sig"
echo "$out"

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes a Debian package of a node's programs, their units and these pages, with dpkg-deb alone.
#
# usage: build.sh [--programs FOLDER] [--out FOLDER]
# --programs: what deploy/build.sh has made; target/dist unless told otherwise.
# --out: where the package goes; target/deb unless told otherwise.
#
# Prints the package's path. The same programs make the same package, byte for byte.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
checkout=$(cd "$here/../.." && pwd)
target=$(realpath -m "${CARGO_TARGET_DIR:-$checkout/target}")
version=$(sed -nE '/^\[workspace.package\]/,/^$/ s/^version = "(.*)"/\1/p' "$checkout/Cargo.toml")
programs=$target/dist
out=$target/deb
while [ $# -gt 0 ]; do
    case $1 in
    --programs) programs=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    *) sed -nE '/^# Makes/,/^set/ s/^# ?//p' "$0" >&2; exit 2 ;;
    esac
done
out=$(realpath -m "$out")
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
trap 'exit 130' INT TERM HUP
chmod 755 "$tree"
doc=$tree/usr/share/doc/sluicegate

for name in sluiced sluicectl sluice-agent vfirewall; do
    install -D -m 755 "$programs/$name" "$tree/usr/bin/$name"
done
# `sluicectl install` puts these where the container runtime looks for them.
for name in sluicegate sluicegate-vf; do
    install -D -m 755 "$programs/$name" "$tree/usr/lib/sluicegate/$name"
done
for unit in "$checkout"/deploy/systemd/*; do
    install -D -m 644 "$unit" "$tree/lib/systemd/system/${unit##*/}"
done
sed -i 's|/usr/local/bin/|/usr/bin/|' "$tree"/lib/systemd/system/*
# Without uplinks: nothing is taken from the host before its owner says so.
install -D -m 644 "$checkout/deploy/base/config/sluiced.yaml" "$tree/etc/sluicegate/sluiced.yaml"
install -D -m 644 "$checkout/deploy/sluice-agent.yaml" "$tree/etc/sluicegate/sluice-agent.yaml"
mkdir -p "$tree/etc/sluicegate/policies"
mkdir -p "$doc/examples"
install -m 644 "$checkout"/docs/*.md "$checkout/CHANGELOG.md" "$doc"
install -m 644 "$checkout/deploy/sluiced.yaml" "$doc/examples"
cp -r --no-preserve=mode "$checkout/deploy/policies" "$checkout/deploy/cni" "$doc/examples"
cat >"$doc/copyright" <<'END'
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: Sluicegate

Files: *
Copyright: the authors of Sluicegate
License: Apache-2.0
 On Debian systems the licence is in /usr/share/common-licenses/Apache-2.0.
END

mkdir "$tree/DEBIAN"
size=$(du -sk --exclude DEBIAN "$tree" | cut -f1)
cat >"$tree/DEBIAN/control" <<END
Package: sluicegate
Version: $version
Architecture: amd64
Maintainer: the authors of Sluicegate <sluicegate@localhost>
Installed-Size: $size
Depends: nftables
Recommends: containernetworking-plugins, iproute2
Section: net
Priority: optional
Description: line-rate packet interfaces for pods, behind the firewall of their VLAN
 The engine, which owns uplinks and SR-IOV VFs and judges every frame; the CNI
 plugins; the node's agent; and the tool that asks them. Nothing is started by
 the installation: enable sluiced.service once its configuration names uplinks.
END
printf '%s\n' /etc/sluicegate/sluiced.yaml /etc/sluicegate/sluice-agent.yaml >"$tree/DEBIAN/conffiles"
cat >"$tree/DEBIAN/postinst" <<'END'
#!/bin/sh
set -e
[ ! -d /run/systemd/system ] || systemctl daemon-reload
END
# A running engine is left alone by an upgrade: its owner restarts it.
cat >"$tree/DEBIAN/prerm" <<'END'
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
    systemctl disable --now sluicegate-reap.timer sluice-agent.service sluiced.service sluicegate-vfs.service || true
fi
END
cat >"$tree/DEBIAN/postrm" <<'END'
#!/bin/sh
set -e
[ ! -d /run/systemd/system ] || systemctl daemon-reload
if [ "$1" = purge ]; then
    rm -rf /var/lib/sluicegate
fi
END
chmod 755 "$tree/DEBIAN/postinst" "$tree/DEBIAN/prerm" "$tree/DEBIAN/postrm"
mkdir -p "$out"
package=$out/sluicegate_${version}_amd64.deb
find "$tree" -exec touch --no-dereference --date=@0 {} +
SOURCE_DATE_EPOCH=0 dpkg-deb --root-owner-group -Zgzip -z3 --build "$tree" "$package" >/dev/null
echo "$package"

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Fetches flannel's CNI plugin, which the plugins' project gave up after its version 0.9 and which Debian 12 no
# longer packages: the binary of Debian 11's containernetworking-plugins 0.9.0, unpacked into the cache folder of
# tests/cache.sh and not installed. Prints the plugin's path.
#
# Exit code 3: it cannot be had here; the last line of standard error says why.
set -eu
cache=$(sh "$(dirname "$0")/../cache.sh")/flannel-0.9.0
mkdir -p "$cache"

cannot() {
    echo "$*" >&2
    exit 3
}

exec 9>"$cache/lock"
flock 9
if [ -x "$cache/flannel" ]; then
    echo "$cache/flannel"
    exit 0
fi
command -v apt-get >/dev/null 2>&1 || cannot "needs flannel's CNI plugin in $cache/flannel, and there is no apt-get here to fetch it"
. /etc/os-release
[ "${ID:-}" = debian ] || cannot "flannel's CNI plugin comes from Debian 11's package; put it into $cache/flannel to run elsewhere"
# This machine's sources of its distribution, for Debian 11; lists and archives of their own, so that this
# machine's apt never learns of the older packages.
rm -rf "$cache/apt"
mkdir -p "$cache/apt/sources.d" "$cache/apt/lists/partial" "$cache/apt/archives/partial"
for file in /etc/apt/sources.list.d/*.sources; do
    [ -f "$file" ] || continue
    awk -v suite="$VERSION_CODENAME" 'BEGIN { RS = "" } $0 ~ "(^|\n)Suites:[^\n]* ?" suite "( |\n|$)" {
        gsub(/(^|\n)Suites:[^\n]*/, "\nSuites: bullseye"); sub(/^\n/, ""); print; exit
    }' "$file" >"$cache/apt/sources.d/${file##*/}"
done
if [ -s /etc/apt/sources.list ]; then
    awk -v suite="$VERSION_CODENAME" '$1 == "deb" && $0 ~ " " suite " " { sub(" " suite " ", " bullseye "); print; exit }' \
        /etc/apt/sources.list >"$cache/apt/sources.d/one.list"
fi
find "$cache/apt/sources.d" -type f -empty -delete
[ "$(ls "$cache/apt/sources.d")" ] || cannot "needs flannel's CNI plugin; no source for Debian 11 could be derived from this machine's apt sources"
set -- -o Dir::Etc::sourceparts="$cache/apt/sources.d" -o Dir::Etc::sourcelist=/dev/null \
    -o Dir::State::lists="$cache/apt/lists" -o Dir::Cache="$cache/apt" -o APT::Sandbox::User=root
log=$cache/fetch.log
echo "fetching flannel's CNI plugin from Debian 11 ($log)" >&2
apt-get "$@" update -qq >"$log" 2>&1 9>&- || cannot "needs flannel's CNI plugin; Debian 11's package lists could not be read ($log)"
version=$(apt-cache "$@" madison containernetworking-plugins 2>>"$log" | awk -F' *[|] *' '$2 ~ /^0\.[89]\./ { print $2; exit }')
[ "$version" ] || cannot "needs flannel's CNI plugin; Debian 11 is no longer at this machine's mirror ($log)"
(cd "$cache/apt" && apt-get "$@" download -qq "containernetworking-plugins=$version" >>"$log" 2>&1 9>&-) ||
    cannot "needs flannel's CNI plugin; containernetworking-plugins $version could not be downloaded ($log)"
dpkg-deb --fsys-tarfile "$cache"/apt/containernetworking-plugins_*.deb | tar -xO ./usr/lib/cni/flannel >"$cache/flannel.new"
chmod 755 "$cache/flannel.new"
mv "$cache/flannel.new" "$cache/flannel"
rm -rf "$cache/apt"
echo "$cache/flannel"

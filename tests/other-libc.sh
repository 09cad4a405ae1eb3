#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Fetches another release of the C library with systemd's NSS modules, those of Debian 13, unpacked into the cache
# folder of tests/cache.sh and not installed. Prints the folder, which has them as a root file system does.
#
# Exit code 3: they cannot be had here; the last line of standard error says why.
set -eu
cache=$(sh "$(dirname "$0")/cache.sh")/libc-trixie
mkdir -p "$cache"

cannot() {
    echo "$*" >&2
    exit 3
}

exec 9>"$cache/lock"
flock 9
if [ -d "$cache/root" ]; then
    echo "$cache/root"
    exit 0
fi
command -v apt-get >/dev/null 2>&1 || cannot "needs Debian 13's libc6 in $cache/root, and there is no apt-get here to fetch it"
. /etc/os-release
[ "${ID:-}" = debian ] || cannot "Debian 13's libc6 comes from Debian's mirrors; unpack it into $cache/root to run elsewhere"
# This machine's sources of its distribution, for Debian 13; lists and archives of their own, so that this machine's
# apt never learns of the newer packages.
apt=$cache/apt
rm -rf "$apt"
mkdir -p "$apt/sources.d" "$apt/lists/partial" "$apt/archives/partial"
for file in /etc/apt/sources.list.d/*.sources; do
    [ -f "$file" ] || continue
    awk -v suite="$VERSION_CODENAME" 'BEGIN { RS = "" } $0 ~ "(^|\n)Suites:[^\n]* ?" suite "( |\n|$)" {
        gsub(/(^|\n)Suites:[^\n]*/, "\nSuites: trixie"); sub(/^\n/, ""); print; exit
    }' "$file" >"$apt/sources.d/${file##*/}"
done
if [ -s /etc/apt/sources.list ]; then
    awk -v suite="$VERSION_CODENAME" '$1 == "deb" && $0 ~ " " suite " " { sub(" " suite " ", " trixie "); print; exit }' \
        /etc/apt/sources.list >"$apt/sources.d/one.list"
fi
find "$apt/sources.d" -type f -empty -delete
[ "$(ls "$apt/sources.d")" ] || cannot "needs Debian 13's libc6; no source for it could be derived from this machine's apt sources"
set -- -o Dir::Etc::sourceparts="$apt/sources.d" -o Dir::Etc::sourcelist=/dev/null \
    -o Dir::State::lists="$apt/lists" -o Dir::Cache="$apt" -o APT::Sandbox::User=root
log=$cache/fetch.log
echo "fetching Debian 13's C library ($log)" >&2
apt-get "$@" update -qq >"$log" 2>&1 9>&- || cannot "needs Debian 13's libc6; its package lists could not be read ($log)"
for name in libc6 libnss-resolve libnss-myhostname libnss-mymachines libcap2; do
    version=$(apt-cache "$@" madison "$name" 2>>"$log" | awk -F' *[|] *' '$3 ~ /trixie/ { print $2; exit }')
    [ "$version" ] || cannot "needs $name of Debian 13, which this machine's mirror has not ($log)"
    (cd "$apt" && apt-get "$@" download -qq "$name=$version" >>"$log" 2>&1 9>&-) ||
        cannot "needs Debian 13's C library; $name $version could not be downloaded ($log)"
done
rm -rf "$cache/root.new"
for package in "$apt"/*.deb; do
    dpkg-deb -x "$package" "$cache/root.new"
done
# A merged /usr, as the release has it.
for name in lib lib64; do
    [ ! -d "$cache/root.new/$name" ] || { cp -a "$cache/root.new/$name" "$cache/root.new/usr/" && rm -r "$cache/root.new/$name"; }
    mkdir -p "$cache/root.new/usr/$name"
    ln -s "usr/$name" "$cache/root.new/$name"
done
mv "$cache/root.new" "$cache/root"
rm -rf "$apt"
echo "$cache/root"

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Fetches packages of another Debian release and unpacks them, uninstalled, into a folder that has them as a root file
# system does. Prints the folder, which stays in the cache folder of tests/cache.sh. This machine's apt never learns of
# the other release: the packages have lists and archives of their own.
#
# usage: other-release.sh SUITE NAME WHAT PACKAGE...
# SUITE: the release's code name.  NAME: the folder below the cache.  WHAT: the packages, for messages.
#
# Exit code 3: they cannot be had here; the last line of standard error says why.
set -eu
suite=$1
cache=$(sh "$(dirname "$0")/cache.sh")/$2
what=$3
shift 3
mkdir -p "$cache"

cannot() {
    echo "needs $what; $*" >&2
    exit 3
}

exec 9>"$cache/lock"
flock 9
if [ -d "$cache/root" ]; then
    echo "$cache/root"
    exit 0
fi
packages=$*
elsewhere="unpack $packages of Debian's $suite into $cache/root to run elsewhere"
command -v apt-get >/dev/null 2>&1 || cannot "there is no apt-get here to fetch it: $elsewhere"
. /etc/os-release
[ "${ID:-}" = debian ] || cannot "it comes from Debian's mirrors: $elsewhere"
# This machine's sources of its distribution, for the other release.
apt=$cache/apt
rm -rf "$apt"
mkdir -p "$apt/sources.d" "$apt/lists/partial" "$apt/archives/partial"
for file in /etc/apt/sources.list.d/*.sources; do
    [ -f "$file" ] || continue
    awk -v own="$VERSION_CODENAME" -v suite="$suite" 'BEGIN { RS = "" } $0 ~ "(^|\n)Suites:[^\n]* ?" own "( |\n|$)" {
        gsub(/(^|\n)Suites:[^\n]*/, "\nSuites: " suite); sub(/^\n/, ""); print; exit
    }' "$file" >"$apt/sources.d/${file##*/}"
done
if [ -s /etc/apt/sources.list ]; then
    awk -v own="$VERSION_CODENAME" -v suite="$suite" \
        '$1 == "deb" && $0 ~ " " own " " { sub(" " own " ", " " suite " "); print; exit }' \
        /etc/apt/sources.list >"$apt/sources.d/one.list"
fi
find "$apt/sources.d" -type f -empty -delete
[ "$(ls "$apt/sources.d")" ] || cannot "no source for $suite could be derived from this machine's apt sources"
set -- -o Dir::Etc::sourceparts="$apt/sources.d" -o Dir::Etc::sourcelist=/dev/null \
    -o Dir::State::lists="$apt/lists" -o Dir::Cache="$apt" -o APT::Sandbox::User=root
log=$cache/fetch.log
echo "fetching $what ($log)" >&2
apt-get "$@" update -qq >"$log" 2>&1 9>&- || cannot "the package lists of $suite could not be read ($log)"
for name in $packages; do
    version=$(apt-cache "$@" madison "$name" 2>>"$log" | awk -F' *[|] *' -v suite="$suite" '$3 ~ suite { print $2; exit }')
    [ "$version" ] || cannot "$name of $suite is not at this machine's mirror ($log)"
    (cd "$apt" && apt-get "$@" download -qq "$name=$version" >>"$log" 2>&1 9>&-) ||
        cannot "$name $version could not be downloaded ($log)"
done
rm -rf "$cache/root.new"
for package in "$apt"/*.deb; do
    dpkg-deb -x "$package" "$cache/root.new"
done
# A merged /usr, as the releases have it.
for name in lib lib64; do
    [ ! -d "$cache/root.new/$name" ] || { cp -a "$cache/root.new/$name" "$cache/root.new/usr/" && rm -r "$cache/root.new/$name"; }
    mkdir -p "$cache/root.new/usr/$name"
    ln -s "usr/$name" "$cache/root.new/$name"
done
mv "$cache/root.new" "$cache/root"
rm -rf "$apt"
echo "$cache/root"

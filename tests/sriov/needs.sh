#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what the SR-IOV virtual machine needs: QEMU 8 or later with `igb`, a static busybox, and a kernel of
# this distribution with its modules, which is unpacked into a cache folder and not installed. Does nothing for
# what is there already.
#
# usage: needs.sh CACHE
# Exit code 3: the rig cannot run here; the last line of standard error says why.
set -eu
cache=$1
mkdir -p "$cache"
PATH=$PATH:/usr/sbin:/sbin
export DEBIAN_FRONTEND=noninteractive

cannot() {
    echo "$*" >&2
    exit 3
}

sudo=
[ "$(id -u)" = 0 ] || sudo=sudo

qemu_major() {
    qemu-system-x86_64 --version 2>/dev/null | sed -nE '1s/.* version ([0-9]+)\..*/\1/p'
}
qemu_is_good() {
    [ "$(qemu_major || true)" ] && [ "$(qemu_major)" -ge 8 ]
}

# Copies this machine's apt sources to a folder of our own and adds one for the backports suite, which differs from
# the distribution's first source only in its suite. The machine's sources are not changed.
backports() {
    . /etc/os-release
    sources=$cache/sources.d
    rm -rf "$sources"
    mkdir -p "$sources"
    found=
    for file in /etc/apt/sources.list.d/*.sources; do
        [ -f "$file" ] || continue
        cp "$file" "$sources/"
        [ "$found" ] && continue
        awk -v suite="$VERSION_CODENAME" 'BEGIN { RS = "" } $0 ~ "(^|\n)Suites:[^\n]* ?" suite "( |\n|$)" {
            gsub(/(^|\n)Suites:[^\n]*/, "\nSuites: " suite "-backports"); sub(/^\n/, ""); print; exit
        }' "$file" >"$sources/sluicegate-backports.sources"
        [ -s "$sources/sluicegate-backports.sources" ] && found=1
    done
    for file in /etc/apt/sources.list.d/*.list; do
        [ ! -f "$file" ] || cp "$file" "$sources/"
    done
    if [ -z "$found" ] && [ -s /etc/apt/sources.list ]; then
        awk -v suite="$VERSION_CODENAME" '$1 == "deb" && $0 ~ " " suite " " {
            sub(" " suite " ", " " suite "-backports "); print; exit
        }' /etc/apt/sources.list >"$sources/sluicegate-backports.list"
        [ -s "$sources/sluicegate-backports.list" ] && found=1
    fi
    rm -f "$cache/sources.none"
    [ "$found" ] || cannot "needs QEMU 8 or later; no source for $VERSION_CODENAME-backports could be derived from this machine's apt sources"
}

packages=
if ! qemu_is_good; then
    command -v apt-get >/dev/null 2>&1 || cannot "needs qemu-system-x86_64 8 or later, and there is no apt-get here to install it"
    [ -z "$sudo" ] || command -v sudo >/dev/null 2>&1 || cannot "needs qemu-system-x86_64 8 or later, and only root can install it"
    packages=qemu-system-x86
fi
busybox_is_static() {
    command -v busybox >/dev/null 2>&1 && ! LC_ALL=C ldd "$(command -v busybox)" >/dev/null 2>&1
}
busybox_is_static || packages="$packages busybox-static"
command -v depmod >/dev/null 2>&1 || packages="$packages kmod"
command -v cpio >/dev/null 2>&1 || packages="$packages cpio"

if [ "$packages" ]; then
    echo "installing for the SR-IOV virtual machine: $packages" >&2
    if [ "${packages#qemu}" != "$packages" ]; then
        backports
        set -- -o Dir::Etc::sourceparts="$(realpath "$sources")" -t "$VERSION_CODENAME-backports"
    else
        set --
    fi
    # Another run may be installing something.
    set -- -o DPkg::Lock::Timeout=300 "$@"
    $sudo apt-get "$@" update -qq || cannot "needs $packages; the apt sources of this machine could not be read"
    # A package that the backports do not have comes from the distribution.
    # shellcheck disable=SC2086
    $sudo apt-get "$@" install -y -qq --no-install-recommends $packages >"$cache/install.log" 2>&1 || {
        tail -5 "$cache/install.log" >&2
        cannot "needs $packages, and apt-get could not install them"
    }
    qemu_is_good || cannot "needs QEMU 8 or later for its igb device; apt offers $(qemu_major || echo none)"
fi
qemu-system-x86_64 -device help 2>/dev/null | grep -q '"igb"' || cannot "this QEMU has no igb device"

# Kernel of this distribution, unpacked in the cache.
kernel=$cache/kernel
if [ ! -f "$kernel/release" ]; then
    command -v apt-get >/dev/null 2>&1 || cannot "needs a kernel package, and there is no apt-get here to fetch it"
    package=$(apt-cache depends linux-image-amd64 2>/dev/null | sed -nE 's/^ *Depends: (linux-image-[^ ]+)$/\1/p' | head -1)
    if [ -z "$package" ]; then
        $sudo apt-get update -qq || true
        package=$(apt-cache depends linux-image-amd64 2>/dev/null | sed -nE 's/^ *Depends: (linux-image-[^ ]+)$/\1/p' | head -1)
    fi
    [ "$package" ] || cannot "apt has no package linux-image-amd64"
    echo "fetching $package for the virtual machine" >&2
    rm -rf "$kernel" "$cache/download"
    mkdir -p "$kernel" "$cache/download"
    (cd "$cache/download" && { apt-get download -qq "$package" || { $sudo apt-get update -qq && apt-get download -qq "$package"; }; }) >&2 ||
        cannot "apt-get could not download $package"
    dpkg -x "$cache"/download/linux-image-*.deb "$kernel"
    rm -rf "$cache/download"
    release=${package#linux-image-}
    depmod -b "$kernel" "$release"
    echo "$release" >"$kernel/release"
fi

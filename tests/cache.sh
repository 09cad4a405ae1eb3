#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Prints the folder in which the rigs keep what takes minutes to fetch or build and depends on no source
# here: the virtual machine's kernel, kube-apiserver, kubelet and flannel's plugin. It lies outside the clone, so
# that the next clone finds it: SLUICE_CACHE, else sluicegate in the user's cache folder.
set -eu
if [ -n "${SLUICE_CACHE:-}" ]; then
    cache=$SLUICE_CACHE
elif [ -n "${XDG_CACHE_HOME:-}" ]; then
    cache=$XDG_CACHE_HOME/sluicegate
elif [ -n "${HOME:-}" ] && [ -d "$HOME" ] && [ -w "$HOME" ]; then
    cache=$HOME/.cache/sluicegate
else
    cache=$(dirname "$0")/../target/cache
fi
mkdir -p "$cache"
realpath "$cache"

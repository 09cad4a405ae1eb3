#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs a command as root: directly if this user is root, else through sudo.
set -eu
if [ "$(id -u)" = 0 ]; then
    exec "$@"
fi
if command -v sudo >/dev/null 2>&1; then
    echo "$1 makes network namespaces, so it needs root; running it through sudo" >&2
    exec sudo -- "$@"
fi
echo "$1 makes network namespaces, so it needs root, and there is no sudo here: run this as root" >&2
exit 1

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Fetches flannel's CNI plugin, which the plugins' project gave up after its version 0.9 and which Debian 12 no
# longer packages: the binary of Debian 11's containernetworking-plugins 0.9.0. Prints the plugin's path.
#
# Exit code 3: it cannot be had here; the last line of standard error says why.
set -eu
root=$(sh "$(dirname "$0")/../other-release.sh" bullseye flannel-0.9.0 "flannel's CNI plugin, of Debian 11" \
    containernetworking-plugins)
echo "$root/usr/lib/cni/flannel"

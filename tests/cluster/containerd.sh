#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Fetches a containerd that knows the Container Device Interface, which Debian 12's does not: that of Debian 13, 1.7,
# whose C library may be Debian 12's. Prints the folder of its programs.
#
# Exit code 3: it cannot be had here; the last line of standard error says why.
set -eu
root=$(sh "$(dirname "$0")/../other-release.sh" trixie containerd-trixie "containerd 1.7, of Debian 13" containerd)
echo "$root/usr/bin"

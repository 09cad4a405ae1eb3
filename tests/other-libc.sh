#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Fetches another release of the C library with systemd's NSS modules, those of Debian 13, and prints the folder that
# has them (other-release.sh, whose exit code 3 says that they cannot be had here).
exec sh "$(dirname "$0")/other-release.sh" trixie libc-trixie "Debian 13's C library" \
    libc6 libnss-resolve libnss-myhostname libnss-mymachines libcap2

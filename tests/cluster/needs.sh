#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what the cluster's cases need: etcd, containerd and runc from the distribution, and Kubernetes' own
# programs (kube-apiserver, kube-controller-manager, kube-scheduler, kubelet, kubectl), which no package holds: they
# are built once from the distribution's source package, into the cache folder of tests/cache.sh. Prints the folder
# that holds them and, where they can be had, flannel's CNI plugin (flannel.sh) and a folder `containerd-1.7`
# (containerd.sh).
#
# usage: needs.sh [packages]
# With `packages` it ends before it builds.
# Exit code 3: the cluster cannot run here; the last line of standard error says why.
set -eu
programs="kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl"
# The number counts up with every change to how they are built.
cache=$(sh "$(dirname "$0")/../cache.sh")/kubernetes-1.20.2-2
mkdir -p "$cache"
PATH=$PATH:/usr/sbin:/sbin
export DEBIAN_FRONTEND=noninteractive

cannot() {
    echo "$*" >&2
    exit 3
}

sudo=
[ "$(id -u)" = 0 ] || sudo=sudo

packages=
for need in etcd:etcd-server containerd:containerd runc:runc busybox:busybox-static ip:iproute2 openssl:openssl; do
    command -v "${need%%:*}" >/dev/null 2>&1 || packages="$packages ${need#*:}"
done
if [ "$packages" ]; then
    command -v apt-get >/dev/null 2>&1 || cannot "needs$packages, and there is no apt-get here to install them"
    [ -z "$sudo" ] || command -v sudo >/dev/null 2>&1 || cannot "needs$packages, and only root can install them"
    echo "installing for the cluster:$packages" >&2
    # No services: the cases start what they need, with state of their own.
    policy=/usr/sbin/policy-rc.d
    made=
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
        $sudo chmod 755 "$policy"
        made=1
    fi
    $sudo apt-get -o DPkg::Lock::Timeout=300 update -qq >"$cache/install.log" 2>&1 || true
    # shellcheck disable=SC2086
    $sudo apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends $packages >>"$cache/install.log" 2>&1 || failed=1
    [ -z "$made" ] || $sudo rm -f "$policy"
    [ -z "${failed:-}" ] || { tail -3 "$cache/install.log" >&2; cannot "needs$packages, and apt-get could not install them"; }
fi

[ "${1:-}" != packages ] || exit 0
# A second run waits for the one that builds.
exec 9>"$cache/lock"
flock 9
ready() {
    # What flannel.sh says stays beside the programs, for the cases that are skipped without it.
    if plugin=$(sh "$(dirname "$0")/flannel.sh" 2>"$cache/flannel.log" 9>&-); then
        ln -sf "$plugin" "$cache/bin/flannel"
    fi
    cat "$cache/flannel.log" >&2
    # Likewise: a containerd that knows CDI.
    if folder=$(sh "$(dirname "$0")/containerd.sh" 2>"$cache/containerd.log" 9>&-); then
        ln -sfn "$folder" "$cache/bin/containerd-1.7"
    fi
    cat "$cache/containerd.log" >&2
    echo "$cache/bin"
    exit 0
}
missing=
for name in $programs; do
    [ -x "$cache/bin/$name" ] || missing=1
done
[ "$missing" ] || ready
command -v apt-get >/dev/null 2>&1 || cannot "needs $programs in $cache/bin, and there is no apt-get here to build them from"
. /etc/os-release
[ "${VERSION_CODENAME:-}" = bookworm ] || cannot "Kubernetes is built from Debian 12's source package; put $programs into $cache/bin to run elsewhere"
log=$cache/build.log
: >"$log"
quietly() { "$@" >>"$log" 2>&1 9>&- || { tail -5 "$log" >&2; cannot "could not build Kubernetes: $1 failed ($log)"; }; }

# This machine's apt sources, with their source packages.
sources=$cache/sources.d
rm -rf "$sources"
mkdir -p "$sources"
for file in /etc/apt/sources.list.d/*.sources; do
    [ -f "$file" ] || continue
    sed -E 's/^Types:.*/Types: deb deb-src/' "$file" >"$sources/${file##*/}"
done
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ -s "$file" ] || continue
    name=${file##*/}
    cp "$file" "$sources/${name%.list}.list"
    sed -nE 's/^deb( .*)/deb-src\1/p' "$file" >"$sources/${name%.list}-src.list"
done
set -- -o DPkg::Lock::Timeout=300 -o Dir::Etc::sourceparts="$sources" -o Dir::Etc::sourcelist=/dev/null
echo "building Kubernetes (about ten minutes, once; $log)" >&2
quietly $sudo apt-get "$@" update -qq
quietly $sudo apt-get "$@" install -y -qq --no-install-recommends golang-1.19-go rsync jq make dpkg-dev golang-github-modern-go-reflect2-dev
rm -rf "$cache/source"
mkdir -p "$cache/source"
(cd "$cache/source" && quietly apt-get "$@" source -qq kubernetes)
tree=$(find "$cache/source" -mindepth 1 -maxdepth 1 -type d | head -1)
[ "$tree" ] || cannot "the source package of Kubernetes has no tree"
# The vendored reflect2 does not work with this Go: the server crashes at the first custom resource.
rm -rf "$tree/vendor/github.com/modern-go/reflect2"
cp -r /usr/share/gocode/src/github.com/modern-go/reflect2 "$tree/vendor/github.com/modern-go/reflect2"
# This kubelet names its socket's path as HTTP/2 authority when it calls a device plugin, which servers other than
# Go's take for malformed. Kubernetes 1.26 names localhost (kubernetes#112597): so does this one.
endpoint=$tree/pkg/kubelet/cm/devicemanager/endpoint.go
sed -i 's/grpc\.DialContext(ctx, unixSocketPath, /&grpc.WithAuthority("localhost"), /' "$endpoint"
grep -q 'WithAuthority("localhost")' "$endpoint" || cannot "the kubelet's source is another than was expected: $endpoint"
go=$cache/go
rm -rf "$go"
mkdir -p "$go/src/k8s.io"
ln -s "$tree" "$go/src/k8s.io/kubernetes"
cat >"$cache/version" <<END
KUBE_GIT_COMMIT=archive
KUBE_GIT_TREE_STATE=archive
KUBE_GIT_VERSION=v1.20.2
KUBE_GIT_MAJOR=1
KUBE_GIT_MINOR=20
END
(
    cd "$go/src/k8s.io/kubernetes"
    export PATH=/usr/lib/go-1.19/bin:$PATH GOPATH="$go" GOCACHE="$cache/gocache" GO111MODULE=off CGO_ENABLED=0 GOPROXY=off KUBE_GIT_VERSION_FILE="$cache/version"
    unset MAKEFLAGS MFLAGS MAKELEVEL
    # shellcheck disable=SC2086
    quietly make WHAT="$(printf 'cmd/%s ' $programs)"
)
rm -rf "$cache/bin.new"
mkdir -p "$cache/bin.new"
for name in $programs; do
    built=$(find "$tree/_output" -type f -name "$name" | head -1)
    [ "$built" ] || cannot "the build left no $name ($log)"
    mv "$built" "$cache/bin.new/$name"
done
rm -rf "$cache/bin"
mv "$cache/bin.new" "$cache/bin"
# Tree and caches take 2 GB and are not needed again.
chmod -R u+w "$go" "$cache/source" "$cache/gocache" 2>/dev/null || true
rm -rf "$cache/source" "$go" "$cache/gocache"
ready

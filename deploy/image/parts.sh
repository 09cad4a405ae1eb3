# SPDX-License-Identifier: Apache-2.0
# Functions of the scripts that make images: laying out a root, and packing it. Sourced; `$work` is the caller's
# temporary folder, `$root` the image's root in it.

PATH=$PATH:/usr/sbin:/sbin

# need PROGRAM PACKAGE: ends the script without that program.
need() {
    command -v "$1" >/dev/null || { echo "no $1 here: install the package $2" >&2; exit 1; }
}

# lay_out: the folders of Debian's layout, in which /lib and its like are links into /usr.
lay_out() {
    mkdir -p "$root/usr/bin" "$root/usr/sbin" "$root/usr/lib" "$root/usr/lib64" "$root/etc" "$root/run" "$root/var"
    for name in bin sbin lib lib64; do ln -s "usr/$name" "$root/$name"; done
    # The container runtime names a pod's network namespace by /var/run/netns/...
    ln -s ../run "$root/var/run"
    printf 'root:x:0:0:root:/:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n' >"$root/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
    : >"$work/debian"
}

# place FILE: copies a file of this machine to its path in the root, and notes it in $work/debian.
place() {
    at=$(realpath "$(dirname "$1")")/${1##*/}
    [ ! -e "$root$at" ] || return 0
    mkdir -p "$root${at%/*}"
    install -m 755 "$(realpath "$1")" "$root$at"
    realpath "$1" >>"$work/debian"
}

# with_libraries FILE: places a program or library, and the libraries that the loader says it takes.
with_libraries() {
    place "$1"
    ldd "$1" | sed -nE 's/.* => (\/[^ ]+) .*/\1/p; s/^\s*(\/[^ ]*ld-linux[^ ]*) .*/\1/p' >"$work/libraries"
    while IFS= read -r library; do place "$library"; done <"$work/libraries"
    # The kernel looks for the loader at this path, which Debian has as a link to another folder.
    loader=/usr/lib64/ld-linux-x86-64.so.2
    [ -e "$root$loader" ] || install -m 755 "$(realpath "$loader")" "$root$loader"
}

# pack CONTAINERFILE TAG ARCHIVE: builds the image and writes it as an OCI archive; storage of its own, no daemon.
pack() {
    store() { buildah --root "$work/storage" --runroot "$work/run" --storage-driver vfs "$@"; }
    store bud --quiet --timestamp 0 --tag "$2" --file "$1" "$work" >/dev/null
    mkdir -p "${3%/*}"
    rm -f "$work/image.tar"
    store push --quiet "$2" "oci-archive:$work/image.tar:$2"
    mv -f "$work/image.tar" "$3"
}

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds the guest's initramfs: a static busybox and the modules that a root over 9p needs. Its init mounts the
# host's root read-only, overlays it with a tmpfs and switches to it.
#
# usage: initramfs.sh CACHE
set -eu
cache=$1
PATH=$PATH:/usr/sbin:/sbin
release=$(cat "$cache/kernel/release")
here=$(dirname "$0")
image=$cache/initrd.gz
if [ -f "$image" ] && [ "$image" -nt "$here/initramfs.sh" ] && [ "$image" -nt "$cache/kernel/release" ]; then
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/bin" "$work/modules" "$work/dev" "$work/proc" "$work/sys" "$work/lower" "$work/upper" "$work/root"
cp "$(command -v busybox)" "$work/bin/busybox"
: >"$work/order"
for module in virtio_pci 9pnet_virtio 9p overlay; do
    modprobe -d "$cache/kernel" -S "$release" --show-depends "$module" |
        sed -nE 's/^insmod ([^ ]+).*/\1/p' >>"$work/order"
done
awk '!seen[$0]++' "$work/order" | while IFS= read -r file; do
    cp "$file" "$work/modules/"
    echo "/modules/$(basename "$file")"
done >"$work/modules/list"
rm "$work/order"
cat >"$work/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read -r file; do insmod "$file" || echo "insmod $file failed"; done </modules/list
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=loose,ro hostroot /lower || poweroff -f
mount -t tmpfs -o size=1g,mode=0755 upper /upper
mkdir /upper/data /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work root /root || poweroff -f
for word in $(cat /proc/cmdline); do
    case $word in sluicegate.guest=*) guest=${word#*=} ;; esac
done
mkdir -p /root/dev /root/proc /root/sys
mount --move /dev /root/dev
mount --move /proc /root/proc
mount --move /sys /root/sys
exec switch_root /root /bin/sh "$guest"
INIT
chmod +x "$work/init"
(cd "$work" && find . | cpio -o -H newc 2>/dev/null | gzip -1) >"$image.$$"
mv "$image.$$" "$image"

#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Installs the packages of out/deb on an operator's host, as installing.rst says, and makes a disk
# of it, with the guest that is migrated: build/operator in the cache. All hosts boot from it, and
# find out from addresses of their adapters which they are. Runs on the host.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/../common.sh"
# shellcheck source=tools/packaging/in-debian.sh
. "$TOP/tools/packaging/in-debian.sh"
always_as_root "$0" "$@"

to=$CACHE/build/operator
here=$VM_DIR/operator
driver=$CACHE/build/bitmaps/drivers/vfio
bitmaps=("$(bitmaps_dir)/vfio/vfio.ko" "$driver/rust/vfio_rust.ko"
	"$driver/pci/mlx5_rust/mlx5_vfio_pci_rust.ko")
made_of=$(key "$(operator_dir)" "$OUT"/deb/*.deb "$here"/{disk.sh,guest-init} "${bitmaps[@]}")
[ "$(cat "$to/made-of" 2> /dev/null)" != "$made_of" ] || exit 0
export VM_ROOT=$CACHE/build/operator-root
log=$OUT/log/operator-disk.log
rm -rf "$VM_ROOT" "$to"
mkdir -p "$to"
cp -a "$(operator_dir)" "$VM_ROOT"
: > "$log"

# As an operator does it. The documentation is not needed there.
apt install "$OUT"/deb/mlx5-vfio-pci-rust-dkms_*.deb "$OUT"/deb/vfio-mig_*.deb

# What stands for a kernel that reports dirty pages: installing.rst has an operator build one.
mkdir "$VM_ROOT/usr/lib/bitmaps"
cp "${bitmaps[@]}" "$VM_ROOT/usr/lib/bitmaps/"

# The guest: the same kernel, which drives a VF.
guest=$VM_ROOT/var/lib/guest
files=$to/guest
mkdir -p "$guest" "$files"/{bin,dev,lib,proc,sys}
cp "$VM_ROOT/boot/vmlinuz-$STOCK_RELEASE" "$guest/vmlinuz"
cp "$VM_ROOT/usr/bin/busybox" "$files/bin/"
install -m 755 "$here/guest-init" "$files/init"
number=10
for module in virtio_blk mlx5_core; do
	run modprobe -S "$STOCK_RELEASE" --show-depends "$module"
done | sed -nE 's/^insmod ([^ ]+).*/\1/p' | while read -r module; do
	number=$((number + 1))
	xz -dc "$VM_ROOT$module" > "$files/lib/$number.ko"
done
# shellcheck disable=SC2016 # expanded by the inner shell
run bash -c 'cd "$1" && find . | cpio -o -H newc -R 0:0 --quiet' - "$files" > "$guest/initrd"
rm -rf "$files"

# Addresses by host: of the link between hosts, and of the adapter's network.
network() {
	printf '[Match]\nMACAddress=%s\n[Network]\nAddress=%s/24\nLinkLocalAddressing=no\n' "$1" "$2" \
		> "$VM_ROOT/etc/systemd/network/$3.network"
}
for host in 1 2; do
	network "52:54:00:00:0$host:01" "192.168.50.$host" "link-$host"
	network "52:54:00:00:0$host:02" "192.168.51.$host" "adapter-$host"
done
printf '%s\n' '127.0.0.1 localhost' '192.168.50.1 host1' '192.168.50.2 host2' \
	> "$VM_ROOT/etc/hosts"
rm -f "$VM_ROOT/etc/hostname"
: > "$VM_ROOT/etc/machine-id"

# Root of each gets to the other.
mkdir -p "$VM_ROOT/root/.ssh"
run ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519
cp "$VM_ROOT/root/.ssh/id_ed25519.pub" "$VM_ROOT/root/.ssh/authorized_keys"
sed 's/^/host1,host2 /' "$VM_ROOT/etc/ssh/ssh_host_ed25519_key.pub" \
	> "$VM_ROOT/root/.ssh/known_hosts"

# libvirt gives up a connection that is silent for half a minute: a busy machine may let the
# emulated hosts be so.
echo 'keepalive_interval = -1' >> "$VM_ROOT/etc/libvirt/qemu.conf"

# What the operator does is in the checkout.
mkdir -p "$VM_ROOT/operator"
echo 'operator /operator 9p trans=virtio,ro,nofail 0 0' > "$VM_ROOT/etc/fstab"
cp "$here/operator.service" "$VM_ROOT/etc/systemd/system/"
run systemctl enable -q systemd-networkd ssh operator
rm -f "$VM_ROOT/usr/sbin/policy-rc.d"

cp "$VM_ROOT/boot/vmlinuz-$STOCK_RELEASE" "$to/vmlinuz"
cp "$VM_ROOT/boot/initrd.img-$STOCK_RELEASE" "$to/initrd"
# Its own root is not mounted below the cache's folder.
run mke2fs -q -t ext4 -d "$VM_ROOT" "$to/disk.img" 8G
rm -rf "$VM_ROOT"
echo "$made_of" > "$to/made-of"

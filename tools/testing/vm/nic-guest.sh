#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Makes a kernel and an initrd to try out/mlx5-emu.so with, as out/nic/vmlinuz and
# out/nic/initrd: the distribution's kernel, with its own mlx5_core, and a shell. Runs in the
# sysroot.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=tools/testing/vm/apt.sh
. "$VM_DIR/apt.sh"

dir=$OUT/nic
rm -rf "$dir"
mkdir -p "$dir/debs" "$dir/unpacked" "$dir/files"/{bin,dev,etc,lib,proc,sys}
apt_get update
for package in $STOCK_PACKAGES busybox-static; do
	(cd "$dir/debs" && apt_get download "$package") ||
		die "the archive has no package $package: adapt tools/testing/vm/versions.conf"
	dpkg-deb -x "$dir/debs/$package"_*.deb "$dir/unpacked"
done
cp "$(find "$dir/unpacked" -name 'vmlinuz*' -type f)" "$dir/vmlinuz"
cp "$(find "$dir/unpacked" -name busybox -type f -perm -u+x)" "$dir/files/bin/busybox"

# Modules, in the order in which they must be loaded.
depmod -b "$dir/unpacked/usr" "$STOCK_RELEASE" 2> /dev/null
modprobe -d "$dir/unpacked/usr" -S "$STOCK_RELEASE" --show-depends mlx5_core |
	sed -n 's/^insmod //p' | while read -r module; do
	name=$(basename "$module" .ko.xz)
	xz -dc "$module" > "$dir/files/lib/$name.ko"
	echo "insmod /lib/$name.ko" >> "$dir/files/etc/modules.sh"
done

cat > "$dir/files/init" << 'END'
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
. /etc/modules.sh
exec setsid cttyhack sh
END
# What udhcpc calls with what it has got.
cat > "$dir/files/etc/dhcp.sh" << 'END'
#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr add "$ip/${mask:-24}" dev "$interface"
# Another interface may have one already, such as that of the PF.
[ -z "${router:-}" ] || ip route | grep -q '^default ' || ip route add default via "$router"
END
chmod +x "$dir/files/init" "$dir/files/etc/dhcp.sh"
(cd "$dir/files" && find . | cpio --quiet -o -H newc) | gzip > "$dir/initrd"
rm -rf "$dir/debs" "$dir/unpacked" "$dir/files"
echo "out/nic/vmlinuz and out/nic/initrd: Linux $STOCK_RELEASE with mlx5_core, and a shell"

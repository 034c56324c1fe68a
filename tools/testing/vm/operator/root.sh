#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Makes the Debian of an operator's host, without our packages: with a stock kernel and its
# headers and source, libvirt, QEMU and ssh.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/../common.sh"
# shellcheck source=tools/packaging/in-debian.sh
. "$TOP/tools/packaging/in-debian.sh"
always_as_root "$0" "$@"

root=$(operator_dir)
[ ! -e "$root" ] || exit 0
export VM_ROOT=$root.tmp
log=$OUT/log/operator-root.log
rm -rf "$VM_ROOT"
cp -a "$(debian_dir)" "$VM_ROOT"
: > "$log"

# Small: it has what finds the root file system.
mkdir -p "$VM_ROOT"/etc/initramfs-tools/conf.d
echo 'MODULES=list' > "$VM_ROOT/etc/initramfs-tools/conf.d/operator"
printf '%s\n' virtio_pci virtio_blk ext4 > "$VM_ROOT/etc/initramfs-tools/modules"
# In this order: with libraries of backports, headers could not be installed without more of them.
# shellcheck disable=SC2086 # several packages
{
	apt install $OPERATOR_PACKAGES "linux-headers-$STOCK_RELEASE" "$STOCK_SOURCE"
	apt install -t "$BACKPORTS" "linux-image-$STOCK_RELEASE" $OPERATOR_BACKPORTS
}
mv "$VM_ROOT" "$root"

#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Builds what the stock kernel lacks for reports of dirty pages: its configuration
# has no IOMMUFD, and so its vfio.ko has no bitmaps. Makes vfio.ko from the same source
# with the same configuration, but with bitmaps in it, and the C driver for that.
# Everything else of the kernel stays as it is. Runs in the sysroot.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"

dir=$(bitmaps_dir)
[ ! -e "$dir" ] || exit 0
src=$(sources_dir)/$STOCK_SOURCE
tmp=$dir.tmp
rm -rf "$tmp"
mkdir -p "$tmp/vfio"
build() {
	make -C "$(stock_dir)/objects" "LOCALVERSION=$STOCK_LOCALVERSION" \
		"KCFLAGS=$BITMAPS_FLAG" "$@" modules
}

cp "$src"/drivers/vfio/*.[ch] "$src/drivers/iommu/iommufd/iova_bitmap.c" "$tmp/vfio/"
{
	grep -E '^(obj-\$\(CONFIG_VFIO\)|vfio-)' "$src/drivers/vfio/Makefile"
	echo 'vfio-y += iova_bitmap.o'
} > "$tmp/vfio/Makefile"
build "M=$tmp/vfio"

cp -r "$src/drivers/vfio/pci/mlx5" "$tmp/mlx5"
build "M=$tmp/mlx5" CONFIG_MLX5_VFIO_PCI=m "KBUILD_EXTRA_SYMBOLS=$tmp/vfio/Module.symvers"
mv "$tmp" "$dir"

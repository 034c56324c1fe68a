#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Builds vfio.ko and the C driver with the patches in tools/series/fixes, in their order, for
# the in-tree kernel: these modules take the place of its own. All else is what intree.sh has
# built, which comes first. Runs in the sysroot.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"

dir=$(fixed_dir)
[ ! -e "$dir" ] || exit 0
src=$(sources_dir)/$INTREE_SOURCE
tmp=$dir.tmp
rm -rf "$tmp"
vfio=$tmp/drivers/vfio
mkdir -p "$vfio/pci"
cp "$src"/drivers/vfio/*.[ch] "$vfio/"
cp -r "$src/drivers/vfio/pci/mlx5" "$vfio/pci/"

# Between tables that name them, the file has the patches in their order.
fixes=$TOP/tools/series/fixes
sed -n 's/^message = "\(.*\)"$/\1/p' "$fixes/series.toml" | while read -r fix; do
	patch -d "$tmp" -p1 -s --fuzz=0 < "$fixes/$fix" || die "tools/series/fixes/$fix does not apply"
done

{
	grep -E '^(obj-\$\(CONFIG_VFIO\)|vfio-)' "$src/drivers/vfio/Makefile"
	# shellcheck disable=SC2016 # make expands it
	echo 'obj-$(CONFIG_MLX5_VFIO_PCI) += pci/mlx5/'
} > "$vfio/Makefile"
make -C "$(intree_dir)/objects" "M=$vfio" modules
mv "$tmp" "$dir"

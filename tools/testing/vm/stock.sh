#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Prepares to build modules for the stock kernel. Its headers package has no
# Rust crates, so those are rebuilt from the same source with the same
# configuration and compiler: their symbols have the same names. Also builds
# the C driver, which the stock configuration leaves out. Runs in the sysroot.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"

dir=$(stock_dir)
[ ! -e "$dir" ] || exit 0
src=$(sources_dir)
tmp=$dir.tmp
rm -rf "$tmp"
mkdir -p "$tmp/objects"
headers=$src/stock/usr/src/linux-headers-$STOCK_RELEASE
cp "$headers/.config" "$tmp/objects/.config"
build() { make -C "$src/$STOCK_SOURCE" "O=$tmp/objects" "LOCALVERSION=$STOCK_LOCALVERSION" "$@"; }
build olddefconfig
build "-j$(nproc)" prepare modules_prepare
cp "$headers/Module.symvers" "$tmp/objects/"

cp -r "$src/$STOCK_SOURCE/drivers/vfio/pci/mlx5" "$tmp/mlx5"
make -C "$tmp/objects" "LOCALVERSION=$STOCK_LOCALVERSION" "M=$tmp/mlx5" \
	CONFIG_MLX5_VFIO_PCI=m modules
# The objects' Makefile names the folder that it was made in.
mv "$tmp" "$dir"
make -C "$src/$STOCK_SOURCE" "O=$dir/objects" "LOCALVERSION=$STOCK_LOCALVERSION" outputmakefile

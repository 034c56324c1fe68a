#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Builds the kernel with the series of patches for it (tools/series): what the kernel crate lacks,
# the abstractions of VFIO, and the driver. Source and objects stay in the cache. Runs in the
# sysroot.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=tools/testing/vm/warnings.sh
. "$VM_DIR/warnings.sh"
# shellcheck source=tools/testing/vm/kernel-config.sh
. "$VM_DIR/kernel-config.sh"
# shellcheck source=tools/testing/vm/lay.sh
. "$VM_DIR/lay.sh"

mapfile -t folders < <(our_folders)

dir=$(intree_dir)
src=$dir/source
mkdir -p "$dir"
lay "$dir" mlx5

# KCOV records VFIO, its drivers and the samples. All else is as fast as without it.
for above in drivers/vfio samples; do
	grep -qF KCOV_INSTRUMENT "$src/$above/Makefile" ||
		echo 'export KCOV_INSTRUMENT := y' >> "$src/$above/Makefile"
done

build() { make -C "$src" "O=$dir/objects" "$@"; }
{
	cat "$VM_DIR/intree/config"
	our_options m
} | configure "$dir/objects" tools/testing/vm/intree/config build
# All that the series have: files, and what they change.
noting intree "$(sed 's|^\./||' "$dir/laid" | grep -v 'Makefile$\|Kconfig$\|Kbuild$' | paste -sd '|')" "${folders[@]/#/$dir/objects/}" -- \
	build "-j$(nproc)" bzImage modules

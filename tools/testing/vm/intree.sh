#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Builds the kernel with our files in its tree. Source and objects stay in the
# cache; files are copied only where their contents differ, so that what has
# not changed is not built again. Runs in the sysroot.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=tools/testing/vm/warnings.sh
. "$VM_DIR/warnings.sh"

# Ours.
folders=(drivers/vfio/rust drivers/vfio/pci/mlx5_rust samples/vfio-rust)

dir=$(intree_dir)
src=$dir/source
mkdir -p "$dir"
if [ ! -e "$src" ]; then
	rm -rf "$src.tmp"
	cp -r --reflink=auto "$(sources_dir)/$INTREE_SOURCE" "$src.tmp"
	mv "$src.tmp" "$src"
fi

for folder in "${folders[@]}"; do
	rsync -r --checksum --delete "$TOP/$folder/" "$src/$folder/"
done
# These come beside the kernel's own.
rsync -r --checksum "$TOP/include/" "$src/include/"

# The lines that make them part of the tree. Drivers are compiled against the crate.
vfio=$src/drivers/vfio
grep -q rust/Kconfig "$vfio/Kconfig" ||
	sed -i 's|^source "drivers/vfio/pci/Kconfig"|source "drivers/vfio/rust/Kconfig"\n&|' "$vfio/Kconfig"
# shellcheck disable=SC2016 # make expands it
grep -q VFIO_RUST "$vfio/Makefile" || echo '
obj-$(CONFIG_VFIO_RUST) += rust/
$(obj)/pci: $(if $(CONFIG_VFIO_RUST),$(obj)/rust)' >> "$vfio/Makefile"
# shellcheck disable=SC2016 # make expands it
grep -q VFIO_RUST "$src/Kbuild" || echo '
samples: $(if $(CONFIG_SAMPLE_VFIO_RUST),drivers)' >> "$src/Kbuild"
pci=$vfio/pci
grep -q mlx5_rust "$pci/Kconfig" ||
	sed -i 's|^source "drivers/vfio/pci/mlx5/Kconfig"|&\n\nsource "drivers/vfio/pci/mlx5_rust/Kconfig"|' "$pci/Kconfig"
# shellcheck disable=SC2016 # make expands it
grep -q mlx5_rust "$pci/Makefile" ||
	echo 'obj-$(CONFIG_MLX5_VFIO_PCI_RUST) += mlx5_rust/' >> "$pci/Makefile"
grep -q vfio-rust "$src/samples/Kconfig" ||
	sed -i 's|^source "samples/rust/Kconfig"|&\n\nsource "samples/vfio-rust/Kconfig"|' "$src/samples/Kconfig"
# shellcheck disable=SC2016 # make expands it
grep -q vfio-rust "$src/samples/Makefile" ||
	echo 'obj-$(CONFIG_SAMPLE_VFIO_RUST) += vfio-rust/' >> "$src/samples/Makefile"

build() { make -C "$src" "O=$dir/objects" "$@"; }
mkdir -p "$dir/objects"
if [ ! -e "$dir/objects/.config" ]; then
	build tinyconfig
	cat "$VM_DIR/intree/config" >> "$dir/objects/.config"
	build olddefconfig
	# What was asked for and is not there would go unnoticed.
	while read -r line; do
		grep -qxF "$line" "$dir/objects/.config" || {
			mv "$dir/objects/.config" "$dir/objects/.config.bad"
			die "$line is not possible: adapt tools/testing/vm/intree/config"
		}
	done < <(grep -E '^CONFIG_[A-Z0-9_]+=[^n]' "$VM_DIR/intree/config")
fi
mapfile -t headers < <(cd "$TOP" && find include -type f)
noting intree "$(IFS='|'; echo "${folders[*]}|${headers[*]}")" "${folders[@]/#/$dir/objects/}" -- \
	build "-j$(nproc)" bzImage modules

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
# shellcheck source=tools/testing/vm/kernel-config.sh
. "$VM_DIR/kernel-config.sh"

mapfile -t folders < <(our_folders)

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

# The lines that make them part of the tree: the Kconfig and Makefile above each have them.
while read -r option folder; do
	above=$src/$(dirname "$folder")
	grep -qF "\"$folder/Kconfig\"" "$above/Kconfig" ||
		sed -i "0,\|^source|s||source \"$folder/Kconfig\"\n&|" "$above/Kconfig"
	grep -qF "\$($option)" "$above/Makefile" ||
		echo "obj-\$($option) += $(basename "$folder")/" >> "$above/Makefile"
done < <(sed -nE 's|^obj-\$\((.*)\) \+= (.*)/$|\1 \2|p' "$TOP/Kbuild")
# Drivers are compiled against the crate.
# shellcheck disable=SC2016 # make expands it
grep -qF '(obj)/rust' "$src/drivers/vfio/Makefile" || echo '
$(obj)/pci: $(if $(CONFIG_VFIO_RUST),$(obj)/rust)' >> "$src/drivers/vfio/Makefile"
# shellcheck disable=SC2016 # make expands it
grep -q VFIO_RUST "$src/Kbuild" || echo '
samples: $(if $(CONFIG_VFIO_RUST),drivers)' >> "$src/Kbuild"

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
mapfile -t headers < <(cd "$TOP" && find include -type f)
noting intree "$(IFS='|'; echo "${folders[*]}|${headers[*]}")" "${folders[@]/#/$dir/objects/}" -- \
	build "-j$(nproc)" bzImage modules

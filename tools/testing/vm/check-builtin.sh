#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Links a kernel with MODVERSIONS and with our driver built in, while the sample is a module;
# and once more with all of ours as modules. The kernel is not booted. What is ours must not
# warn, and each symbol that the crate exports must have a version of its own. Runs in the
# sysroot.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=tools/testing/vm/warnings.sh
. "$VM_DIR/warnings.sh"

# One at a time: the objects are shared by all checkouts.
exec 9> "$CACHE/locks/builtin"
flock 9

mapfile -t folders < <(our_folders)
crate=drivers/vfio/rust/vfio_rust
driver=drivers/vfio/pci/mlx5_rust/mlx5_vfio_pci_rust
sample=samples/vfio-rust/vfio_ivshmem_rust
src=$(intree_dir)/source
objects=$(builtin_dir)
build() { nice make -C "$src" "O=$objects" "-j$(nproc)" "$@"; }

# wanted: the configuration, on top of tinyconfig.
wanted() {
	sed '/^CONFIG_SAMPLE_VFIO_RUST=/!s/=m$/=y/' "$VM_DIR/architectures/config"
	cat "$VM_DIR/architectures/versions"
}

# configure y|m: what our driver is, and with it the crate.
configure() {
	local config=$objects/.config line
	if [ ! -e "$config" ]; then
		mkdir -p "$objects"
		build tinyconfig
		wanted >> "$config"
		build olddefconfig
		while read -r line; do
			grep -qxF "$line" "$config" || {
				mv "$config" "$config.bad"
				die "$line is not possible: adapt $VM_DIR/architectures"
			}
		done < <(wanted | grep -E '^CONFIG_[A-Z0-9_]+=[^n]')
	fi
	"$src/scripts/config" --file "$config" --set-val MLX5_VFIO_PCI_RUST "$1"
	build olddefconfig
	grep -qx "CONFIG_VFIO_RUST=$1" "$config" || die "the crate is not as the driver: $1"
}

# link y|m: builds all.
link() {
	local log=$OUT/log/builtin-$1.log warnings
	configure "$1"
	# An object that is up to date would not warn.
	rm -rf "${folders[@]/#/$objects/}"
	build vmlinux modules 2>&1 | tee "$log"
	warnings=$(warnings_in "$(IFS='|'; echo "${folders[*]}|include/trace/events/vfio_")" < "$log")
	[ -z "$warnings" ] || die "warnings:"$'\n'"$warnings"
}

# versions WHERE: the versions of what the crate exports from there, of each name one.
versions() {
	sed -n 's/^EXPORT_SYMBOL_GPL(\(.*\));$/\1/p' "$objects/drivers/vfio/rust/exports_generated.h" |
		awk -v where="$1" '
			NR == FNR { name[$1]; next }
			$2 in name && $3 == where { print $1, $2; delete name[$2] }
			END { for (left in name) { print "not exported:", left; exit 1 } }
		' - "$objects/Module.symvers"
}

# check_versions WHERE
check_versions() {
	local all count kinds
	all=$(versions "$1") || die "$1: $all"
	! grep '^0x00000000 ' <<< "$all" || die "symbols without a version"
	count=$(wc -l <<< "$all")
	kinds=$(cut -d ' ' -f 1 <<< "$all" | sort -u | wc -l)
	# Functions of one type have one version. If nobody knew the types, all would.
	[ $((kinds * 4)) -gt "$count" ] || die "$count symbols have $kinds versions"
	echo "$1: $count symbols of the crate, $kinds versions"
}

# has_module OBJECT: whether its code names a module that it is a part of.
# A grep that ends early would have nm fail.
has_module() { nm "$objects/$1" | grep ' U __this_module$' > /dev/null; }

cd "$OUT/log"
link y
for module in "$crate" "$driver"; do
	grep -qxF "$module.ko" <(sed 's|^kernel/||' "$objects/modules.builtin") || die "$module is not built in"
done
# The owner of its files is null.
! has_module "${driver}_main.o" || die "built-in code names a module"
[ -e "$objects/$sample.ko" ] || die "the sample is no module"
check_versions vmlinux

link m
has_module "${driver}_main.o" || die "a module does not name itself"
for module in "$crate" "$driver" "$sample"; do
	[ -e "$objects/$module.ko" ] || die "$module is no module"
done
check_versions "$crate"

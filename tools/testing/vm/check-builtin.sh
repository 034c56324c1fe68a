#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Looks at the kernel of builtin.sh, and links one with versions of symbols in which all of
# ours are modules. What is ours must not warn, and each symbol that the crate exports must
# have a version of its own. Runs in the sysroot.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=tools/testing/vm/warnings.sh
. "$VM_DIR/warnings.sh"
# shellcheck source=tools/testing/vm/kernel-config.sh
. "$VM_DIR/kernel-config.sh"

# One at a time: the objects are shared by all checkouts.
exec 9> "$CACHE/locks/versions"
flock 9

mapfile -t folders < <(our_folders)
crate=drivers/vfio/rust/vfio_rust
driver=drivers/vfio/pci/mlx5_rust/mlx5_vfio_pci_rust
sample=samples/vfio-rust/vfio_ivshmem_rust

# versions OBJECTS WHERE: the versions of what the crate exports from there, of each name one.
versions() {
	sed -n 's/^EXPORT_SYMBOL_GPL(\(.*\));$/\1/p' "$1/drivers/vfio/rust/exports_generated.h" |
		awk -v where="$2" '
			NR == FNR { name[$1]; next }
			$2 in name && $3 == where { print $1, $2; delete name[$2] }
			END { for (left in name) { print "not exported:", left; exit 1 } }
		' - "$1/Module.symvers"
}

# check_versions OBJECTS WHERE
check_versions() {
	local all count kinds
	all=$(versions "$@") || die "$2: $all"
	! grep '^0x00000000 ' <<< "$all" || die "symbols without a version"
	count=$(wc -l <<< "$all")
	kinds=$(cut -d ' ' -f 1 <<< "$all" | sort -u | wc -l)
	# Functions of one type have one version. If nobody knew the types, all would.
	[ $((kinds * 4)) -gt "$count" ] || die "$count symbols have $kinds versions"
	echo "$2: $count symbols of the crate, $kinds versions"
}

# names_module OBJECT: whether its code names a module that it is a part of.
# A grep that ends early would have nm fail.
names_module() { nm "$1" | grep ' U __this_module$' > /dev/null; }

objects=$(builtin_dir)/objects
"$VM_DIR/check-warnings.sh" builtin
for module in "$crate" "$driver"; do
	grep -qxF "$module.ko" <(sed 's|^kernel/||' "$objects/modules.builtin") || die "$module is not built in"
done
# The owner of its files is null.
! names_module "$objects/${driver}_main.o" || die "built-in code names a module"
[ -e "$objects/$sample.ko" ] || die "the sample is no module"
check_versions "$objects" vmlinux

objects=$(versions_dir)
build() { nice make -C "$(intree_dir)/source" "O=$objects" "-j$(nproc)" "$@"; }
{
	cat "$VM_DIR/architectures/config" "$VM_DIR/intree/versions"
	echo CONFIG_64BIT=y
	our_options m
} | configure "$objects" tools/testing/vm/intree/versions build
log=$OUT/log/versions.log
# An object that is up to date would not warn.
rm -rf "${folders[@]/#/$objects/}"
build vmlinux modules 2>&1 | tee "$log"
warnings=$(warnings_in "$(IFS='|'; echo "${folders[*]}|include/trace/events/vfio_")" < "$log")
[ -z "$warnings" ] || die "warnings:"$'\n'"$warnings"
names_module "$objects/${driver}_main.o" || die "a module does not name itself"
for module in "$crate" "$driver" "$sample"; do
	[ -e "$objects/$module.ko" ] || die "$module is no module"
done
check_versions "$objects" "$crate"

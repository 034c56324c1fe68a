#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Compiles our modules for other architectures, with clang, which has them all, from the
# source of intree.sh. Only our folders are built, and not the kernel: what the modules
# refer to must be exported by the source, or by the crates that were built. A warning of
# ours fails. Where the driver cannot work, Kconfig must not offer it. Runs in the sysroot.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=tools/testing/vm/warnings.sh
. "$VM_DIR/warnings.sh"
# shellcheck source=tools/testing/vm/kernel-config.sh
. "$VM_DIR/kernel-config.sh"

# One at a time: the objects are shared by all checkouts.
exec 9> "$CACHE/locks/architectures"
flock 9

mapfile -t folders < <(our_folders)
fragment=$VM_DIR/architectures/config
src=$(intree_dir)/source
dir=$(architectures_dir)
mkdir -p "$dir"

# build ARCHITECTURE ARGUMENT...
build() { nice make -C "$src" "O=$dir/$1" "ARCH=$1" LLVM=1 "-j$(nproc)" "${@:2}"; }

# wanted LINE...: a configuration, on top of tinyconfig.
wanted() {
	cat "$fragment"
	our_options m
	printf '%s\n' "$@"
}

# modules_of ARCHITECTURE: our modules that its configuration has, as make knows them.
modules_of() {
	local makefile folder
	find "${folders[@]/#/$PLAIN_TOP/}" -name Makefile | while read -r makefile; do
		folder=$(dirname "$makefile")
		make -s -f - names <<- END
			srctree := $src
			src := $folder
			obj := $folder
			include $dir/$1/include/config/auto.conf
			include $makefile
			names: ; @printf '%s\\n' \$(patsubst %.o,${folder#"$PLAIN_TOP/"}/%.ko,\$(filter %.o,\$(obj-m)))
		END
	done
}

# All names that an EXPORT_SYMBOL of the source has, whatever its kind, or that a macro with
# one in it has. Of a macro that puts a name together, NAME##width, the beginning and "##".
pattern='(EXPORT_[A-Z_]*SYMBOL[A-Z_]*|define_dev_printk_level)\([A-Za-z0-9_]+(##)?'
exported=$dir/exported-$(key "$pattern")
[ -e "$exported" ] || {
	grep -rhoE --include='*.[chS]' "$pattern" "$src" |
		sed 's/.*(//' | LC_ALL=C sort -u > "$exported.new"
	mv "$exported.new" "$exported"
}

# undefined ARCHITECTURE MODULE...: what modules refer to, and nothing exports.
undefined() (
	cd "$dir/$1"
	llvm-nm -u --format=just-symbols "${@:2}" | sed -n 's/^ *\([A-Za-z_][^ :]*\)$/\1/p' |
		LC_ALL=C sort -u |
		LC_ALL=C comm -23 - <(
			{
				cat "$exported"
				sed -n 's/^EXPORT_SYMBOL_RUST_GPL(\(.*\));$/\1/p' rust/exports_*_generated.h
				cut -f 2 modules-only.symvers
			} | LC_ALL=C sort -u
		) | awk '
			NR == FNR { beginnings[substr($0, 1, length($0) - 2)]; next }
			{
				for (begin in beginnings)
					if (index($0, begin) == 1 && substr($0, length(begin) + 1) ~ /^[0-9]+$/)
						next
				print
			}' <(grep '##$' "$exported") -
)

# check ARCHITECTURE LINE...: the modules are built.
check() {
	local objects=$dir/$1 log=$OUT/log/architecture-$1.log missing warnings modules folder
	wanted "${@:2}" | configure "$objects" "$fragment" build "$1"
	build "$1" prepare modules_prepare
	mapfile -t modules < <(modules_of "$1")
	for folder in "${folders[@]}"; do
		[[ " ${modules[*]}" == *" $folder/"* ]] ||
			die "there is no module of $folder"
	done
	# An object that is up to date would not warn.
	rm -rf "${folders[@]/#/$objects/}"
	build "$1" KBUILD_MODPOST_WARN=1 "${modules[@]}" 2>&1 | tee "$log"
	# Without a kernel, modpost knows no symbol: undefined() does.
	warnings=$(sed -E '/modpost: .* undefined!$|modpost: suppressed [0-9]+ unresolved/d' "$log" |
		warnings_in "$(IFS='|'; echo "${folders[*]}|include/trace/events/vfio_")")
	[ -z "$warnings" ] || die "warnings for $1:"$'\n'"$warnings"
	missing=$(undefined "$1" "${modules[@]}")
	[ -z "$missing" ] || die "for $1, nothing exports"$'\n'"$missing"
	echo "$1: built"
}

# excluded ARCHITECTURE LINE...: Kconfig has Rust and VFIO there, and none of ours.
excluded() {
	local config=$dir/$1/.config
	mkdir -p "$dir/$1"
	build "$1" tinyconfig
	wanted "${@:2}" >> "$config"
	build "$1" olddefconfig
	if ! grep -qx CONFIG_RUST=y "$config" || ! grep -qx CONFIG_VFIO=m "$config"; then
		die "no Rust, or no VFIO, for $1: this tests nothing"
	fi
	! grep -E '^CONFIG_.*(VFIO_RUST|VFIO_PCI_RUST)=' "$config" ||
		die "Kconfig offers our modules for $1"
	echo "$1: excluded"
}

for architecture in ${1:-x86_64 arm64 riscv arm}; do
	case $architecture in
	x86_64) check x86_64 CONFIG_64BIT=y ;;
	riscv) check riscv CONFIG_ARCH_RV64I=y CONFIG_SPARSEMEM_MANUAL=y CONFIG_SPARSEMEM_VMEMMAP=y ;;
	# 32 bit.
	arm) excluded arm CONFIG_ARCH_MULTI_V7=y CONFIG_ARCH_MULTIPLATFORM=y CONFIG_ARCH_VIRT=y ;;
	*) check "$architecture" ;;
	esac
done

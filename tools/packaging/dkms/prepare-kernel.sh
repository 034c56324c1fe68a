#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Prepares to build the driver for a kernel of Debian:
#
#   prepare-kernel.sh check [RELEASE]    says whether the driver can be built for a kernel, and
#                                        if not, everything that is missing; for that which runs,
#                                        if none is given
#   prepare-kernel.sh prepare RELEASE    makes what is missing in the kernel's build folder
#   prepare-kernel.sh clean              removes all that was made
#
# Exit status: 0 if all is well, 1 if something is missing, 77 if the driver cannot be built for
# that kernel, whatever is installed, 2 if the command line is wrong.
#
# A Rust module is compiled against the crates of its kernel. Debian's linux-headers do not have
# them, so they are built from the package with the kernel's source, with the kernel's own
# configuration and compilers: what they export has the names that the kernel has then. They are
# kept in a build folder of their own, in /var/cache, with links to all else that is in the
# kernel's.
set -euo pipefail

CACHE=${MLX5_VFIO_PCI_RUST_CACHE:-/var/cache/mlx5-vfio-pci-rust}
MODULES=${MLX5_VFIO_PCI_RUST_MODULES:-/lib/modules}
SOURCES=${MLX5_VFIO_PCI_RUST_SOURCES:-/usr/src}
# MiB that the build of the crates takes, and less than that when it has ended.
SPACE=3000

die() {
	echo "error: $*" >&2
	exit 1
}

# What a kernel must be is said there.
dkms_tree='' kernelver='' BUILD_EXCLUSIVE_ARCH='' BUILD_EXCLUSIVE_CONFIG=''
BUILD_EXCLUSIVE_KERNEL_MIN='' BUILD_EXCLUSIVE_KERNEL_MAX=''
# shellcheck source=tools/packaging/dkms/dkms.conf
. "$(dirname "$(realpath "$0")")/dkms.conf"

# of RELEASE: sets what is known of a kernel.
of() {
	release=$1
	headers=$MODULES/$release/build
	# 7.2.12+deb13-amd64 is a 7.2.
	series=$(sed -E 's/^([0-9]+\.[0-9]+).*/\1/' <<< "$release")
	tarball=$SOURCES/linux-source-$series.tar.xz
	folder=$CACHE/$release
}

# option NAME: the value of an option of the kernel, without quotes; nothing if it is not set.
option() {
	sed -nE "s/^$1=\"?([^\"]*)\"?\$/\1/p" "$headers/.config"
}

# at_least VERSION LEAST
at_least() {
	[ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]
}

# has_crates FOLDER: whether a build folder has crates, as that of a kernel that was built here.
has_crates() {
	[ -e "$1/rust/libkernel.rmeta" ] && [ -e "$1/rust/bindings/bindings_generated.rs" ]
}

# source_of: the folder with the source that the build folder is of, or with those parts of it
# that modules need.
source_of() {
	local makefile
	makefile=$(sed -nE 's/^include +(.*)\/Makefile$/\1/p' "$headers/Makefile")
	realpath "${makefile:-$headers}"
}

# version_of FILE: the version of the package that a file is from.
version_of() {
	local package
	package=$(dpkg-query -S "$(realpath "$1")" 2> /dev/null | head -n 1) || return 0
	[ -z "$package" ] || dpkg-query -W -f '${Version}' "${package%%:*}"
}

# never: why the driver cannot be built for the kernel, whatever is installed.
never() {
	local config
	[[ $(uname -m) =~ $BUILD_EXCLUSIVE_ARCH ]] ||
		echo "packages are only made for x86-64, and this machine is $(uname -m)"
	at_least "$series" "$BUILD_EXCLUSIVE_KERNEL_MIN" ||
		echo "it is older than $BUILD_EXCLUSIVE_KERNEL_MIN, the oldest that the driver is for"
	at_least "$BUILD_EXCLUSIVE_KERNEL_MAX" "$series" ||
		echo "it is newer than ${BUILD_EXCLUSIVE_KERNEL_MAX%.999}, the newest that the driver is for"
	[ -e "$headers/.config" ] || return 0
	for config in $BUILD_EXCLUSIVE_CONFIG; do
		[ -n "$(option "$config")" ] || echo "it was built without $config"
	done
}

# made_of: all that the crates depend on, and how they are made here.
made_of() {
	rustc --version --verbose
	bindgen --version
	{
		cat "$headers/.config" "$headers/Module.symvers"
		declare -f build_crates make_folders link source_of
	} | sha256sum
	version_of "$headers/.config"
}

# has_made: whether the crates have been made before, and nothing that they depend on has changed.
has_made() {
	[ -e "$folder/made-of" ] && [ "$(cat "$folder/made-of")" = "$(made_of 2> /dev/null)" ]
}

# missing: what has to be installed.
missing() {
	local of_kernel here
	if [ ! -e "$headers/.config" ]; then
		echo "$headers is not there; install linux-headers-$release"
		return
	fi
	of_kernel=$(option CONFIG_RUSTC_VERSION_TEXT)
	if ! command -v rustc > /dev/null; then
		echo "there is no rustc; install that which has built the kernel: $of_kernel"
	else
		# One of rustup may have no toolchain.
		here=$(rustc --version 2>&1) || true
		# A crate can only be read by the compiler that has made it.
		[ "$here" = "$of_kernel" ] ||
			echo "rustc is not the one that has built the kernel: that was \"$of_kernel\", and this is \"$here\""
	fi
	here=$(bindgen --version 2> /dev/null) || true
	if [ -z "$here" ]; then
		echo "bindgen is missing, or does not run; install bindgen"
	elif ! at_least "${here#bindgen }" 0.71.1; then
		echo "$here is too old; the kernel needs 0.71.1 or newer"
	fi
	# With the crates, their source is not needed any more: it may be that of a later kernel.
	if has_crates "$headers" || has_made; then
		return
	fi
	if command -v rustc > /dev/null &&
			[ ! -e "$(rustc --print sysroot 2> /dev/null)/lib/rustlib/src/rust/library/core/src/lib.rs" ]; then
		echo "the source of Rust's core library is missing; install rust-src in the version of rustc"
	fi
	if [ ! -e "$tarball" ]; then
		echo "$tarball is missing, which the kernel's crates are built from; install linux-source-$series"
		return
	fi
	of_kernel=$(version_of "$headers/.config")
	here=$(version_of "$tarball")
	[ "$of_kernel" = "$here" ] ||
		echo "linux-source-$series is of version ${here:-unknown}, and the kernel's headers are of ${of_kernel:-unknown}; install the source with the version of the headers"
}

# say REASONS: each in a line of its own, with the kernel.
say() {
	local reason
	while read -r reason; do
		echo "mlx5-vfio-pci-rust cannot be built for Linux $release: $reason" >&2
	done <<< "$1"
}

# check: whether the driver can be built.
check() {
	local reasons
	reasons=$(never)
	if [ -n "$reasons" ]; then
		say "$reasons"
		exit 77
	fi
	reasons=$(missing)
	if [ -n "$reasons" ]; then
		say "$reasons"
		exit 1
	fi
}

# build_crates TEMPORARY: builds the crates in a folder that has room for it.
build_crates() {
	local tmp=$1 free make
	free=$(df --output=avail -BM "$tmp" | tail -n 1 | tr -dc 0-9)
	[ "$free" -ge "$SPACE" ] ||
		die "$tmp has $free MiB free, and the crates of a kernel need $SPACE MiB while they are built"
	mkdir "$tmp/source" "$tmp/objects"
	# Not what is large, and no crate needs.
	tar -xJf "$tarball" -C "$tmp/source" --strip-components=1 --wildcards \
		--exclude='*/Documentation/*/*' --exclude='*/drivers/gpu/drm/amd/include/*' \
		--exclude='*/drivers/*.c' --exclude='*/fs/*.c' --exclude='*/net/*.c' \
		--exclude='*/sound/*.c' --exclude='*/tools/testing/*'
	cp "$headers/.config" "$tmp/objects/"
	# The compiler of the kernel, with all that the distribution has changed for its modules.
	[ ! -e "$headers/.kernelvariables" ] || cp "$headers/.kernelvariables" "$tmp/objects/"
	make=(make -C "$tmp/source" "O=$tmp/objects")
	"${make[@]}" rustavailable
	"${make[@]}" olddefconfig
	# With another configuration, the crates would be of another kernel.
	diff <(grep -v '_VERSION_TEXT=' "$headers/.config") \
		<(grep -v '_VERSION_TEXT=' "$tmp/objects/.config") ||
		die "with the compilers and programs here, the configuration of Linux $release would be another one, as above"
	"${make[@]}" "-j$(nproc)" prepare
}

# link FROM TO: links to all entries of a folder, but for those that are there.
link() {
	local entry
	mkdir -p "$2"
	find "$1/" -mindepth 1 -maxdepth 1 -print0 | while IFS= read -rd '' entry; do
		[ -e "$2/${entry##*/}" ] || ln -s "$entry" "$2/"
	done
}

# prepare: $folder/build, in which modules can be built.
prepare() {
	local tmp kernel
	check
	mkdir -p "$CACHE"
	# One at a time, also for several kernels: until this one ends, however it does.
	exec 9> "$CACHE/.lock"
	if ! flock -n 9; then
		echo "waits until another one has ended, which makes crates in $CACHE"
		flock 9
	fi
	# What one has left that was killed, and the crates of kernels that are gone.
	rm -rf "$CACHE"/.tmp-*
	for kernel in "$CACHE"/*/; do
		kernel=$(basename "$kernel")
		[ -e "$MODULES/$kernel" ] || rm -rf "${CACHE:?}/$kernel"
	done
	if has_made; then
		echo "$folder has the crates of Linux $release"
		return
	fi
	tmp=$(mktemp -d "$CACHE/.tmp-XXXXXX")
	# shellcheck disable=SC2064 # as it is now
	trap "rm -rf '$tmp'" EXIT
	mkdir "$tmp/made"
	if has_crates "$headers"; then
		ln -s "$headers" "$tmp/made/build"
	else
		build_crates "$tmp"
		make_folders "$tmp"
	fi
	made_of > "$tmp/made/made-of"
	rm -rf "$folder"
	mv -T "$tmp/made" "$folder"
}

# make_folders TEMPORARY: made/build and made/source.
make_folders() {
	local tmp=$1 made=$1/made
	mkdir -p "$made/source/rust" "$made"/build/{rust/{bindings,kernel},scripts}
	# What our Makefiles read of the source.
	cp "$tmp"/source/rust/{Makefile,bindgen_parameters} "$made/source/rust/"
	link "$(source_of)" "$made/source"
	(
		cd "$tmp/objects/rust"
		cp ./*.rmeta ./*.so "$made/build/rust/"
		cp bindings/*_generated.rs "$made/build/rust/bindings/"
		# Macros of the kernel crate include these.
		cp kernel/*.rs "$made/build/rust/kernel/"
	)
	# What rustc compiles for, on x86.
	cp "$tmp/objects/scripts/target.json" "$made/build/scripts/"
	link "$headers/scripts" "$made/build/scripts"
	cat > "$made/build/Makefile" <<- END
		export KBUILD_OUTPUT = $folder/build
		include $folder/source/Makefile
	END
	link "$headers" "$made/build"
}

usage() {
	sed -nE '/^#   /s/^# //p' "$0" >&2
	exit 2
}

case ${1:-},$# in
check,1) of "$(uname -r)" ;;
check,2 | prepare,2) of "$2" ;;
clean,1) rm -rf "$CACHE" && exit ;;
*) usage ;;
esac
[[ $release =~ ^[0-9]+\.[0-9]+[-+.~_0-9A-Za-z]*$ ]] || die "$release is no release of Linux"
"$1"

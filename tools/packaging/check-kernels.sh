#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# What dkms/prepare-kernel.sh says about kernels: those that the driver can be built for, and
# those that it cannot, with the reason. Kernels and programs are made up.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/../testing/vm/common.sh"

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export MLX5_VFIO_PCI_RUST_CACHE=$tmp/cache MLX5_VFIO_PCI_RUST_MODULES=$tmp/modules
export MLX5_VFIO_PCI_RUST_SOURCES=$tmp/src PATH=$tmp/bin:$PATH
script=$TOP/tools/packaging/dkms/prepare-kernel.sh
RUSTC='rustc 1.85.1 (4eb161250 2025-03-15) (built from a source tarball)'
K=7.2.12+deb13-amd64

# program NAME TEXT...: a program that prints a text for each command line; `*` is any.
program() {
	local name=$1
	shift
	mkdir -p "$tmp/bin"
	{
		printf '#!/bin/sh\ncase "$*" in\n'
		printf '%s) echo "%s" ;;\n' "$@"
		printf 'esac\n'
	} > "$tmp/bin/$name"
	chmod +x "$tmp/bin/$name"
}

# well: a kernel for which all is there, and nothing else.
well() {
	local build=$tmp/modules/$K/build
	rm -rf "${tmp:?}"/*
	mkdir -p "$build" "$tmp/src" "$tmp/sysroot/lib/rustlib/src/rust/library/core/src"
	printf '%s=y\n' CONFIG_RUST CONFIG_MODULES CONFIG_PCI > "$build/.config"
	printf '%s=m\n' CONFIG_VFIO_PCI_CORE CONFIG_MLX5_CORE >> "$build/.config"
	echo "CONFIG_RUSTC_VERSION_TEXT=\"$RUSTC\"" >> "$build/.config"
	touch "$tmp/src/linux-source-7.2.tar.xz" "$build/Module.symvers" \
		"$tmp/sysroot/lib/rustlib/src/rust/library/core/src/lib.rs"
	program rustc '--version*' "$RUSTC" '--print\ sysroot' "$tmp/sysroot"
	program bindgen '*' 'bindgen 0.71.1'
	program uname -m x86_64 -r "$K"
	program dpkg-query '-S*.config' "linux-headers-$K: $build/.config" \
		'-S*' "linux-source-7.2: $tmp/src" '*' 7.2.12-1
}

bad=0
# expect STATUS TEXT COMMAND...: an exit status, and a part of what is said; nothing may be said
# where the text is empty.
expect() {
	local status=0 said
	said=$("${@:3}" 2>&1) || status=$?
	if [ "$status" != "$1" ] || [[ $said != *"$2"* ]] || { [ -z "$2" ] && [ -n "$said" ]; }; then
		printf '%s\n  status %s, and said: %s\n  expected %s: %s\n' "${*:3}" "$status" "$said" \
			"$1" "$2"
		bad=1
	fi
}
# check STATUS TEXT: of the kernel.
check() { expect "$1" "$2" "$script" check "$K"; }
config() { sed -i "$1" "$tmp/modules/$K/build/.config"; }

well
check 0 ''
expect 0 '' "$script" check

# Kernels that it can never be built for.
well
config '/CONFIG_RUST=/d'
check 77 "cannot be built for Linux $K: it was built without CONFIG_RUST"
well
config '/CONFIG_MLX5_CORE=/s/.*/# CONFIG_MLX5_CORE is not set/'
check 77 'it was built without CONFIG_MLX5_CORE'
well
expect 77 'it is older than 7.2, ' "$script" check 6.12.57+deb13-amd64
expect 77 'it is older than 7.2, ' "$script" check 7.1.13+deb13-amd64
expect 77 'it is newer than 7.3, ' "$script" check 7.10.1+deb14-amd64
program uname -m aarch64 -r "$K"
check 77 'this machine is aarch64'

# What somebody can install.
well
expect 1 'install linux-headers-7.3.4+deb13-amd64' "$script" check 7.3.4+deb13-amd64
program rustc '--version*' 'rustc 1.97.1 (e408947bf 2026-06-30)' '--print\ sysroot' "$tmp/sysroot"
check 1 "that was \"$RUSTC\", and this is \"rustc 1.97.1 (e408947bf 2026-06-30)\""
well
rm -r "$tmp/sysroot"
check 1 'install rust-src in the version of rustc'
well
program bindgen '*' 'bindgen 0.69.5'
check 1 'bindgen 0.69.5 is too old; the kernel needs 0.71.1 or newer'
program bindgen nothing ''
check 1 'bindgen is missing, or does not run'
well
rm "$tmp/src/linux-source-7.2.tar.xz"
check 1 'install linux-source-7.2'
check 1 'linux-source-7.2.tar.xz is missing'
well
program dpkg-query '-S*.config' "linux-headers-$K: x" '-S*' 'linux-source-7.2: x' \
	'*linux-source-7.2' 7.2.11-1 '*' 7.2.12-1
check 1 "linux-source-7.2 is of version 7.2.11-1, and the kernel's headers are of 7.2.12-1"
# All that is missing is said at once.
program bindgen nothing ''
check 1 'linux-source-7.2 is of version'
check 1 'bindgen is missing'

# A kernel with crates, as one that was built here: nothing is to be made, and only once.
well
rm -r "$tmp/src/linux-source-7.2.tar.xz" "$tmp/sysroot"
mkdir -p "$tmp/modules/$K/build/rust/bindings" "$tmp/cache/7.1.0-gone"
touch "$tmp/modules/$K/build/rust/"{libkernel.rmeta,bindings/bindings_generated.rs}
expect 0 '' "$script" prepare "$K"
expect 0 '' test "$tmp/cache/$K/build" -ef "$tmp/modules/$K/build"
expect 1 '' test -e "$tmp/cache/7.1.0-gone"
expect 0 'has the crates of' "$script" prepare "$K"
# With another configuration, it is another kernel.
echo CONFIG_NEW=y >> "$tmp/modules/$K/build/.config"
expect 0 '' "$script" prepare "$K"
expect 0 '' "$script" clean
expect 1 '' test -e "$tmp/cache"

# making: a kernel whose crates have to be made, from a source and by a compiler that are made up.
making() {
	well
	local source=$tmp/linux-source-7.2
	mkdir -p "$source/rust"
	touch "$source/rust/"{Makefile,bindgen_parameters} "$tmp/modules/$K/build/Makefile"
	mkdir "$tmp/modules/$K/build/scripts"
	tar -cJf "$tmp/src/linux-source-7.2.tar.xz" -C "$tmp" linux-source-7.2
	cat > "$tmp/bin/make" <<- 'END'
		#!/bin/sh -e
		for word; do
			case $word in O=*) cd "${word#O=}" ;; prepare) what=$word ;; esac
		done
		[ "$what" ] || exit 0
		echo made
		mkdir -p rust/bindings rust/kernel scripts
		touch rust/libkernel.rmeta rust/libmacros.so rust/bindings/bindings_generated.rs \
			rust/kernel/some.rs scripts/target.json
	END
	chmod +x "$tmp/bin/make"
	program df '*' 9999M
}
making
# One that was killed has left this.
mkdir -p "$tmp/cache/.tmp-killed/objects"
expect 0 made "$script" prepare "$K"
expect 0 '' test -e "$tmp/cache/$K/build/rust/libkernel.rmeta"
expect 1 '' test -e "$tmp/cache/.tmp-killed"
expect 0 'has the crates of' "$script" prepare "$K"
# An upgrade has brought the source of a later kernel, or somebody has removed it.
program dpkg-query '-S*.config' "linux-headers-$K: x" '-S*' 'linux-source-7.2: x' \
	'*linux-source-7.2' 7.2.13-1 '*' 7.2.12-1
expect 0 'has the crates of' "$script" prepare "$K"
check 0 ''
rm -r "$tmp/src/linux-source-7.2.tar.xz" "$tmp/sysroot"
expect 0 'has the crates of' "$script" prepare "$K"
# Of another kernel, they are of no use.
config '/CONFIG_PCI=/s/y/m/'
check 1 'linux-source-7.2.tar.xz is missing'
# Two at the same time make them once.
making
"$script" prepare "$K" > "$tmp/first" 2>&1 &
# shellcheck disable=SC2016 # expanded by the inner shell
expect 0 '' sh -c '"$1" prepare "$2" > "$3" 2>&1' - "$script" "$K" "$tmp/second"
status=0
wait $! || status=$?
expect 0 '' [ $status = 0 ]
expect 0 1 sh -c 'cat "$@" | grep -c "^made$"' - "$tmp/first" "$tmp/second"
# Without room for them, or if they cannot be made, nothing is left.
making
program df '*' 100M
expect 1 'has 100 MiB free, and the crates of a kernel need 3000 MiB' "$script" prepare "$K"
making
printf '#!/bin/sh\nexit 2\n' > "$tmp/bin/make"
expect 2 '' "$script" prepare "$K"
# shellcheck disable=SC2016 # expanded by the inner shell
expect 0 '' sh -c '[ "$(ls -A "$1")" = .lock ]' - "$tmp/cache"
# A compiler that says no version is no reason to end without a word.
well
printf '#!/bin/sh\necho "no toolchain" >&2\nexit 1\n' > "$tmp/bin/rustc"
check 1 'and this is "no toolchain"'

expect 2 'prepare-kernel.sh check [RELEASE]' "$script"
expect 2 'prepare RELEASE' "$script" prepare
expect 2 'clean' "$script" destroy "$K"
expect 1 '../7.2 is no release of Linux' "$script" check ../7.2
expect 1 'no release of Linux' "$script" check '7.2;/x'
exit $bad

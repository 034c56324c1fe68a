#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Builds what is of this checkout, and quickly: build.sh WHAT. Runs in the
# sysroot.
#
#   emu      the emulated HCA, for QEMU         -> $CACHE/build/mlx5-emu.so,
#            and what counts instructions in it -> $CACHE/build/counter.so
#   nic      the emulated HCA, for a person     -> out/mlx5-emu.so
#   guest    init and tools of the test machine -> $CACHE/build/{vm-guest,vfio-mig},
#            and a preload for a QEMU in it     -> $CACHE/build/precopy-info-v1.so
#   tools    vfio-mig, for a person             -> out/vfio-mig
#   runner   vm-test                            -> $CACHE/build/vm-test
#   series   patch-series, which cuts the tree -> $CACHE/build/patch-series
#   fuzz     libFuzzer with what is fuzzed      -> $CACHE/build/fuzz
#   module   our module for the stock kernel    -> $CACHE/build/stock,
#            and for one with dirty bitmaps     -> $CACHE/build/bitmaps
#   kunit    our modules with their KUnit tests -> $CACHE/build/kunit, for the in-tree
#            kernel: only one machine has the tests in its modules
#   kunit-debug  the same for the kernel with all checkers
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=tools/testing/vm/warnings.sh
. "$VM_DIR/warnings.sh"
# shellcheck source=tools/testing/vm/kernel-config.sh
. "$VM_DIR/kernel-config.sh"

out=$CACHE/build
mkdir -p "$out"
cd "$TOP/tools"

# put FILE...: to $out. A program that runs there, for another make, stays as it is.
put() {
	local file name
	for file; do
		name=${file##*/}
		cp "$file" "$out/$name.tmp"
		mv "$out/$name.tmp" "$out/$name"
	done
}

# Cargo and Kbuild tell from times what to build again, and what they have built is shared
# by all checkouts: another one may have built newer files that are not the same. Files
# that differ from those that were built last become the newest.
freshen() {
	local seen=$out/sources
	find "$PLAIN_TOP/tools" "$PLAIN_TOP/drivers" "$PLAIN_TOP/include" "$PLAIN_TOP/samples" -type f -print0 |
		xargs -0 sha256sum | sed "s|  $PLAIN_TOP/|  |" | sort > "$seen.new"
	touch "$seen"
	comm -13 "$seen" "$seen.new" | cut -d ' ' -f 3- | sed "s|^|$PLAIN_TOP/|" |
		xargs -r -d '\n' touch
	mv "$seen.new" "$seen"
}

freshen
case $1 in
emu)
	# cargo says again what it has warned of before.
	noting emu . -- cargo build --release -p mlx5-emu
	# Warnings of its compiler are errors.
	make -C testing/mlx5-emu/shim "QEMU_SRC=$(qemu_source_dir)" \
		"QEMU_HEADERS=$(qemu_headers_dir)" \
		"MODEL=$CARGO_TARGET_DIR/release/libmlx5_emu.a" "OUT=$out"
	# shellcheck disable=SC2046 # several options
	cc -O2 -Wall -Wextra -Werror -shared -fPIC $(pkg-config --cflags glib-2.0) \
		"-I$(qemu_source_dir)/include/qemu" -o "$CARGO_TARGET_DIR/counter.so" \
		"$VM_DIR/counter.c"
	put "$CARGO_TARGET_DIR/counter.so"
	;;
nic)
	"$VM_DIR/build.sh" emu
	install "$out/mlx5-emu.so" "$OUT/"
	;;
guest)
	# Static: the test machine has no libraries.
	RUSTFLAGS="-C target-feature=+crt-static" noting guest . -- cargo build --release \
		--target x86_64-unknown-linux-gnu -p vm-guest -p vfio-mig
	put "$CARGO_TARGET_DIR/x86_64-unknown-linux-gnu/release/vm-guest" \
		"$CARGO_TARGET_DIR/x86_64-unknown-linux-gnu/release/vfio-mig"
	cc -O2 -Wall -Werror -shared -fPIC -o "$CARGO_TARGET_DIR/precopy-info-v1.so" \
		"$VM_DIR/precopy-info-v1.c"
	put "$CARGO_TARGET_DIR/precopy-info-v1.so"
	;;
tools)
	"$VM_DIR/build.sh" guest
	install "$out/vfio-mig" "$OUT/"
	;;
runner)
	noting runner . -- cargo build --release -p vm-test
	put "$CARGO_TARGET_DIR/release/vm-test"
	;;
series)
	noting series . -- cargo build --release -p patch-series
	put "$CARGO_TARGET_DIR/release/patch-series"
	;;
fuzz)
	# The compiler has the program count which of its code an input gets to, and show what is
	# compared. No sanitizer: the code is safe, and panics where something is wrong.
	options=(-Cpasses=sancov-module)
	for option in level=4 inline-8bit-counters pc-table trace-compares; do
		options+=("-Cllvm-args=-sanitizer-coverage-$option")
	done
	# With a target: what runs while it is built is not instrumented.
	RUSTFLAGS="${options[*]}" noting fuzz . -- cargo build --profile fuzz \
		--target x86_64-unknown-linux-gnu -p mlx5-rust-fuzz --features libfuzzer
	put "$CARGO_TARGET_DIR/x86_64-unknown-linux-gnu/fuzz/fuzz"
	;;
module)
	mkdir -p "$out/stock" "$out/bitmaps"
	# module NAME FOLDER ARGUMENT...: whatever is built here is ours.
	module() {
		noting "$1" . "$out/$2" -- make -C "$(stock_dir)/objects" \
			"LOCALVERSION=$STOCK_LOCALVERSION" "M=$PLAIN_TOP" "MO=$out/$2" "-j$(nproc)" \
			"${@:3}" modules
	}
	module module stock CONFIG_SAMPLE_VFIO_RUST_SKELETONS=m
	module module-bitmaps bitmaps "KCFLAGS=$BITMAPS_FLAG" \
		"KRUSTFLAGS=--cfg=CONFIG_IOMMUFD_DRIVER" \
		"KBUILD_EXTRA_SYMBOLS=$(bitmaps_dir)/vfio/Module.symvers"
	;;
kunit | kunit-debug)
	objects=$(intree_dir)/objects arguments=()
	[ "$1" = kunit ] || objects=$(debug_dir)/objects arguments=(LLVM=1)
	# As Kconfig would have it with KUNIT_ALL_TESTS. The kernel crate of these kernels has methods
	# that are in traits of ours, whose imports have no use there.
	tests=$(our_kunit_options | sed 's/^/--cfg=/; s/=y$//' | tr '\n' ' ')
	noting "$1" . "$out/$1" -- make -C "$objects" "${arguments[@]}" \
		"M=$PLAIN_TOP" "MO=$out/$1" "-j$(nproc)" \
		CONFIG_VFIO_RUST_EXAMPLES_KUNIT_TEST=m "KRUSTFLAGS=$tests -Aunused_imports" modules
	;;
*) die "build.sh emu|nic|guest|tools|runner|fuzz|module|kunit|kunit-debug" ;;
esac

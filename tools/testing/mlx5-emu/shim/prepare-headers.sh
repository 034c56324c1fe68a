#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Makes the generated headers that QEMU's device API needs, without building
# QEMU: prepare-headers.sh SRC OUT
#
# SRC is the unpacked source of the QEMU that will load the device; OUT is
# created, complete or not at all.
set -eu

src=$(realpath "$1")
out=$2
tmp=$out.tmp
rm -rf "$tmp"
mkdir -p "$tmp/build" "$tmp/include"

# configure writes the headers early, and then stops for lack of firmware blobs
# that the distribution's source does not have. What counts is what it wrote.
(cd "$tmp/build" && "$src/configure" --target-list=x86_64-softmmu \
	--without-default-features --enable-modules --disable-docs) \
	> "$tmp/configure.log" 2>&1 || true

for header in config-host.h x86_64-softmmu-config-target.h x86_64-softmmu-config-devices.h; do
	if [ ! -e "$tmp/build/$header" ]; then
		tail -n 20 "$tmp/configure.log" >&2
		echo "QEMU's configure did not write $header (log: $tmp/configure.log)" >&2
		exit 1
	fi
	cp "$tmp/build/$header" "$tmp/include/"
done
: > "$tmp/include/config-poison.h"

(cd "$src" && python3 scripts/qapi-gen.py -b -o "$tmp/include/qapi" qapi/qapi-schema.json)

rm -rf "$tmp/build"
rm -rf "$out"
mv "$tmp" "$out"

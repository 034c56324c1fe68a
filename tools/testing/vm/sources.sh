#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Fetches and unpacks what is built from, or run: the stock kernel, the sources
# of two kernels, the source of QEMU. Runs in the sysroot.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=tools/testing/vm/apt.sh
. "$VM_DIR/apt.sh"

dir=$(sources_dir)
[ ! -e "$dir" ] || exit 0
tmp=$dir.tmp
rm -rf "$tmp"
mkdir -p "$tmp/debs" "$tmp/stock"
cd "$tmp/debs"

apt_get update
for package in $STOCK_PACKAGES $STOCK_SOURCE $INTREE_SOURCE; do
	apt_get download "$package" ||
		die "the archive has no package $package: adapt tools/testing/vm/versions.conf"
done
for package in $STOCK_PACKAGES; do
	dpkg-deb -x "$package"_*.deb "$tmp/stock"
done
for source in $STOCK_SOURCE $INTREE_SOURCE; do
	dpkg-deb --fsys-tarfile "$source"_*.deb | tar -xO "./usr/src/$source.tar.xz" |
		xz -dc -T0 | tar -x -C "$tmp"
done
apt_get source --download-only "$QEMU_SOURCE" ||
	die "the archive has no source of $QEMU_SOURCE: adapt tools/testing/vm/versions.conf"
dpkg-source --no-check -x "$QEMU_SOURCE"_*.dsc "$tmp/qemu"
rm -rf "$tmp/debs"
# An unpacked .deb puts its own links into /usr/lib/modules; what depmod needs
# to know of built-in modules is not in these packages.
depmod -b "$tmp/stock/usr" "$STOCK_RELEASE" 2> /dev/null
mv "$tmp" "$dir"

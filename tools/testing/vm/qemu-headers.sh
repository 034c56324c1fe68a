#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Makes what the emulated HCA is compiled against: QEMU's source, and the headers that are
# generated from it. If sources.sh has fetched the source, it is that one. Runs in the
# sysroot.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=tools/testing/vm/apt.sh
. "$VM_DIR/apt.sh"

dir=$(qemu_source_dir)
if [ ! -e "$dir" ]; then
	tmp=$dir.tmp
	# Also a link to what is not there any more.
	rm -rf "$dir" "$tmp"
	if [ -e "$(sources_dir)" ]; then
		ln -s "$(sources_dir)/qemu" "$tmp"
	else
		mkdir -p "$dir.debs"
		cd "$dir.debs"
		apt_get update
		apt_get source --download-only "$QEMU_SOURCE" ||
			die "the archive has no source of $QEMU_SOURCE: adapt tools/testing/vm/versions.conf"
		dpkg-source --no-check -x "$QEMU_SOURCE"_*.dsc "$tmp"
		cd "$CACHE"
		rm -rf "$dir.debs"
	fi
	mv -T "$tmp" "$dir"
fi
[ -e "$(qemu_headers_dir)" ] ||
	"$TOP/tools/testing/mlx5-emu/shim/prepare-headers.sh" "$dir" "$(qemu_headers_dir)"

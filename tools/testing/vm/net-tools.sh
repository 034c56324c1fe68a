#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Fetches the programs that configure network interfaces, and puts them into a
# folder with the libraries that they need: files of a test machine, each where
# it is in the sysroot. Runs in the sysroot.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=tools/testing/vm/packages.sh
. "$VM_DIR/packages.sh"

dir=$(net_tools_dir)
[ ! -e "$dir" ] || exit 0
tmp=$dir.tmp
rm -rf "$tmp"
mkdir -p "$tmp/files/usr/bin"
# shellcheck disable=SC2086 # several packages
unpack "$tmp/packages" "$SUITE" $NET_TOOLS_PACKAGES

export LD_LIBRARY_PATH=$tmp/packages/usr/lib/x86_64-linux-gnu
for program in usr/sbin/ethtool usr/bin/ip; do
	program=$tmp/packages/$program
	missing=$(ldd "$program" | grep 'not found' || true)
	[ -z "$missing" ] || die "the sysroot does not have what $program needs: $missing"
	cp "$program" "$tmp/files/usr/bin"
	# "name => path (address)", or "path (address)" of the loader.
	ldd "$program" | sed -nE 's|^.*[[:space:]](/[^ ]+) \(.*$|\1|p' | while read -r library; do
		to=$tmp/files/${library#"$tmp/packages"}
		mkdir -p "${to%/*}"
		cp -L "$library" "$to"
	done
done
unset LD_LIBRARY_PATH
rm -rf "$tmp/packages"
mv "$tmp/files" "$dir"
rm -rf "$tmp"

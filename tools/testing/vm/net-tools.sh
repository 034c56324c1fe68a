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
# shellcheck disable=SC2086 # several packages
unpack "$tmp/packages" "$SUITE" $NET_TOOLS_PACKAGES
for program in usr/sbin/ethtool usr/sbin/tc usr/bin/ip; do
	add_program "$tmp/files" "$tmp/packages" "$tmp/packages/$program"
done
mv "$tmp/files" "$dir"
rm -rf "$tmp"

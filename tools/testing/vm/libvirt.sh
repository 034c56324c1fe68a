#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Fetches libvirt's schemas, and xmllint, by which the documentation's XML is checked. Runs in
# the sysroot.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=tools/testing/vm/packages.sh
. "$VM_DIR/packages.sh"

dir=$(libvirt_dir)
[ ! -e "$dir" ] || exit 0
tmp=$dir.tmp
rm -rf "$tmp"
# shellcheck disable=SC2086 # several packages
unpack "$tmp" "$SUITE" $LIBVIRT_PACKAGES
mv "$tmp" "$dir"

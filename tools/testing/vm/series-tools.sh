#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Fetches what writes and checks series of patches: git, and sparse. Runs in the sysroot.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=tools/testing/vm/packages.sh
. "$VM_DIR/packages.sh"

dir=$(series_tools_dir)
[ ! -e "$dir" ] || exit 0
tmp=$dir.tmp
rm -rf "$tmp"
# shellcheck disable=SC2086 # several packages
unpack "$tmp" "$SUITE" $SERIES_PACKAGES
mv "$tmp" "$dir"

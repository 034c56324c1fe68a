#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Builds the kernel with our files in its tree once more, without checkers: for
# measurements. The source is that of intree.sh, which comes first. Runs in the sysroot.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=tools/testing/vm/kernel-config.sh
. "$VM_DIR/kernel-config.sh"

src=$(intree_dir)/source
dir=$(bare_dir)
build() { make -C "$src" "O=$dir/objects" "$@"; }

{
	sed '/^# Checkers\.$/,$d' "$VM_DIR/intree/config"
	cat "$VM_DIR/intree/bare"
	our_options m
} | configure "$dir/objects" tools/testing/vm/intree/bare build
build "-j$(nproc)" bzImage modules

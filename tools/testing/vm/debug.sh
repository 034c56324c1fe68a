#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Builds the kernel with our files in its tree once more, by clang and with all checkers that
# C and Rust have. The source is that of intree.sh, which comes first. Runs in the sysroot.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=tools/testing/vm/warnings.sh
. "$VM_DIR/warnings.sh"
# shellcheck source=tools/testing/vm/kernel-config.sh
. "$VM_DIR/kernel-config.sh"

src=$(intree_dir)/source
objects=$(debug_dir)/objects
mapfile -t folders < <(our_folders)
build() { make -C "$src" "O=$objects" LLVM=1 "$@"; }

{
	sed '/^CONFIG_OBJTOOL_WERROR=/d' "$VM_DIR/intree/config"
	cat "$VM_DIR/intree/debug"
	our_options m
} | configure "$objects" tools/testing/vm/intree/debug build
noting debug "$(IFS='|'; echo "${folders[*]}|include/trace/events/vfio_")" \
	"${folders[@]/#/$objects/}" -- build "-j$(nproc)" bzImage modules

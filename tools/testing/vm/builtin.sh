#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Builds the kernel with our files in its tree once more: the crate and our driver are in its
# image, with their KUnit tests, and the samples are modules. Symbols have versions. The
# source is that of intree.sh, which comes first. Runs in the sysroot.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=tools/testing/vm/warnings.sh
. "$VM_DIR/warnings.sh"
# shellcheck source=tools/testing/vm/kernel-config.sh
. "$VM_DIR/kernel-config.sh"

src=$(intree_dir)/source
objects=$(builtin_dir)/objects
mapfile -t folders < <(our_folders)
build() { make -C "$src" "O=$objects" "$@"; }

{
	sed '/^# Checkers\.$/,$d; s/=m$/=y/' "$VM_DIR/intree/config"
	cat "$VM_DIR/intree/builtin" "$VM_DIR/intree/versions"
	our_options y | sed '/SAMPLE/s/=y$/=m/'
	our_kunit_options
} | configure "$objects" tools/testing/vm/intree/builtin build
noting builtin "$(IFS='|'; echo "${folders[*]}|include/trace/events/vfio_")" \
	"${folders[@]/#/$objects/}" -- build "-j$(nproc)" bzImage modules

#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The kernel's clippy over the driver. Runs in the sysroot.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"

mkdir -p "$CACHE/build/clippy"
# An object that is up to date would not be looked at.
find "$CACHE/build/clippy" \( -name '*_main.o' -o -name lib.o \) -delete
make -C "$(stock_dir)/objects" "LOCALVERSION=$STOCK_LOCALVERSION" "M=$PLAIN_TOP" \
	"MO=$CACHE/build/clippy" CONFIG_SAMPLE_VFIO_RUST_SKELETONS=m CLIPPY=1 modules 2>&1 | tee "$OUT/log/clippy"
! grep -E '^(warning|error)' "$OUT/log/clippy"

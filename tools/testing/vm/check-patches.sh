#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Puts the series of patches together: each file of ours that the kernel gets must have its place
# in one, and all of them must apply to the kernel's source. Runs in the sysroot.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"

patch_series() { "$CACHE/build/patch-series" --top "$PLAIN_TOP" "$@"; }

mapfile -t folders < <(our_folders)
patch_series covers "${folders[@]}" include Documentation/driver-api/vfio-rust
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
for series in $("$VM_DIR/names.sh" SERIES); do
	patch_series tree "$series" --source "$(sources_dir)/$INTREE_SOURCE" --out "$tree/$series"
done

#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Builds the kernel with our files in its tree once more, without checkers: for
# measurements. The source is that of intree.sh, which comes first. Runs in the sysroot.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"

src=$(intree_dir)/source
dir=$(bare_dir)
config=$dir/objects/.config
build() { make -C "$src" "O=$dir/objects" "$@"; }

# wanted: the configuration, on top of tinyconfig.
wanted() {
	sed '/^# Checkers\.$/,$d' "$VM_DIR/intree/config"
	cat "$VM_DIR/intree/bare"
}

mkdir -p "$dir/objects"
if [ ! -e "$config" ]; then
	build tinyconfig
	wanted >> "$config"
	build olddefconfig
	# What was asked for and is not there would go unnoticed.
	while read -r line; do
		grep -qxF "$line" "$config" || {
			mv "$config" "$config.bad"
			die "$line is not possible: adapt tools/testing/vm/intree/bare"
		}
	done < <(wanted | grep -E '^CONFIG_[A-Z0-9_]+=[^n]')
fi
build "-j$(nproc)" bzImage modules

#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Builds the kernel that a series leaves, with those before it, as a test machine boots it:
#
#   series-boot.sh SERIES
#
# Its configuration is that of the in-tree kernel, with what the series have of ours. Runs in the
# sysroot.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=tools/testing/vm/kernel-config.sh
. "$VM_DIR/kernel-config.sh"
# shellcheck source=tools/testing/vm/series-source.sh
. "$VM_DIR/series-source.sh"

lay "$dir" "$1"

build() { make -C "$src" "O=$dir/boot" "$@"; }
{
	cat "$VM_DIR/intree/config"
	# An option that another series adds is none yet.
	our_options m | while IFS= read -r line; do
		option=${line%%=*}
		! grep -rqxF --include=Kconfig "config ${option#CONFIG_}" "$src"/{drivers/vfio,samples} || echo "$line"
	done
} | configure "$dir/boot" tools/testing/vm/intree/config build
# A module of another series is none of these.
find "$dir/boot" -name '*.ko' -delete
build "-j$(nproc)" bzImage modules

#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Fetches the QEMU that uses our VFs, newer than the one that test machines run
# on, and unpacks it into a folder of its own. Its libraries are the sysroot's.
# Runs in the sysroot.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=tools/testing/vm/packages.sh
. "$VM_DIR/packages.sh"

dir=$(consumer_dir)
[ ! -e "$dir" ] || exit 0
tmp=$dir.tmp
rm -rf "$tmp"
# shellcheck disable=SC2086 # several packages
unpack "$tmp" "$BACKPORTS" $CONSUMER_PACKAGES

qemu=$tmp/usr/bin/qemu-system-x86_64
missing=$(ldd "$qemu" | grep 'not found' || true)
[ -z "$missing" ] || die "the sysroot does not have what this QEMU needs: $missing"
"$qemu" -version | grep -qF "version $CONSUMER_VERSION" ||
	die "this is not QEMU $CONSUMER_VERSION: adapt tools/testing/vm/versions.conf"
mv "$tmp" "$dir"

#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Builds the test of rdma-core's user-space mlx5 driver, with the driver and all libraries in
# it: machines have none. Headers and libraries are unpacked into a folder of their own, so that
# the sysroot stays as it is. Runs in the sysroot.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=tools/testing/vm/packages.sh
. "$VM_DIR/packages.sh"

dir=$(rdma_dir)
[ ! -e "$dir" ] || exit 0
tmp=$dir.tmp
rm -rf "$tmp"
# shellcheck disable=SC2086 # several packages
unpack "$tmp/debs" "$SUITE" $RDMA_PACKAGES
libraries=$tmp/debs/usr/lib/x86_64-linux-gnu

tests=tools/testing/selftests
gcc -static -O2 -Wall -Wextra -Werror -Wno-unused-parameter -Wno-sign-compare -D_GNU_SOURCE \
	-isystem "$(sources_dir)/$INTREE_SOURCE/$tests" -isystem "$tmp/debs/usr/include" \
	-o "$tmp/mlx5_vfio_test" "$TOP/$tests/rdma-core/mlx5_vfio_test.c" \
	"$libraries"/{libmlx5,libibverbs,libnl-route-3,libnl-3}.a -lpthread
rm -rf "$tmp/debs"
mv "$tmp" "$dir"

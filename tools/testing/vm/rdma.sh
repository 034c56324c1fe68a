#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Builds the test of rdma-core's user-space mlx5 driver, with the driver and rdma-core's
# libraries in it, and puts it into a folder with the C library: files of a test machine, each
# where it is in the sysroot. Headers and libraries are unpacked into a folder of their own, so
# that the sysroot stays as it is. Runs in the sysroot.
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
unpack "$tmp/packages" "$SUITE" $RDMA_PACKAGES
libraries=$tmp/packages/usr/lib/x86_64-linux-gnu

# The C library is not in the program: libnl calls getaddrinfo() and getprotobyname(), for which
# glibc loads libraries at run time, and the linker warns of those in a static program.
tests=tools/testing/selftests
gcc -O2 -Wall -Wextra -Werror -Wl,--fatal-warnings -Wno-unused-parameter -Wno-sign-compare \
	-D_GNU_SOURCE \
	-isystem "$(sources_dir)/$INTREE_SOURCE/$tests" -isystem "$tmp/packages/usr/include" \
	-o "$tmp/mlx5_vfio_test" "$TOP/$tests/rdma-core/mlx5_vfio_test.c" \
	"$libraries"/{libmlx5,libibverbs,libnl-route-3,libnl-3}.a -lpthread
add_program "$tmp/files" "$tmp/packages" "$tmp/mlx5_vfio_test"
mv "$tmp/files" "$dir"
rm -rf "$tmp"

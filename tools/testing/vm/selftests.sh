#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Builds the VFIO selftests of the in-tree kernel's source, with our migration
# test laid over them. They are as in that source, in a tree that has just what
# they need; a machine gets vfio-mig when they are run. Runs in the sysroot.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"

dir=$(selftests_dir)
[ ! -e "$dir" ] || exit 0
src=$(sources_dir)/$INTREE_SOURCE
tmp=$dir.tmp
rm -rf "$tmp"
mkdir -p "$tmp"

make -C "$src" "O=$tmp/objects" "INSTALL_HDR_PATH=$tmp/usr" headers_install
rm -r "$tmp/objects"

cd "$src"
tests=tools/testing/selftests
{
	printf '%s\n' scripts/subarch.include tools/include tools/arch \
		$tests/{Makefile,lib.mk,kselftest.h,kselftest_harness.h,kselftest,vfio}
	# Headers of the kernel's that are linked to.
	find tools/include $tests/vfio -type l -exec realpath --relative-to=. {} +
} | rsync -a -r --files-from=- . "$tmp"

rsync -r "$TOP/$tests/vfio/" "$tmp/$tests/vfio/"
# For TEST_PROGS to be seen by lib.mk; the first include of it is that of
# architectures without these tests.
sed -i '/^else$/,$ s|^include \.\./lib\.mk$|include migration.mk\n&|' "$tmp/$tests/vfio/Makefile"
grep -q '^include migration.mk$' "$tmp/$tests/vfio/Makefile" ||
	die "no place for migration.mk in the Makefile of the VFIO selftests"

# vfio-mig comes when they are run.
make -C "$tmp/$tests" TARGETS=vfio FORCE_TARGETS=1 VFIO_MIG=/bin/true "-j$(nproc)"
rm "$tmp/$tests/vfio/vfio-mig"
# They name the folder as it is called now.
find "$tmp/$tests/vfio" -name '*.d' -delete
mv "$tmp" "$dir"

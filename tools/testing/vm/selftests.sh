#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Builds the VFIO selftests of the in-tree kernel's source with our patches for them
# (tools/series/selftests), in a tree that has just what they need. Runs in the sysroot.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"

dir=$(selftests_dir)
[ ! -e "$dir" ] || exit 0
src=$(sources_dir)/$INTREE_SOURCE
series=$TOP/tools/series/selftests
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

# In their order: a patch may change what one before it has changed.
messages=$(sed -n 's/^message = "\(.*\)"$/\1/p' "$series/series.toml")
for message in $messages; do
	patch --directory="$tmp" --strip=1 --fuzz=0 --silent --input="$series/$message"
done
# Exactly the files that the patches add: the build fails if one is missing.
cd "$TOP"
grep -o "\"$tests/[^\"]*\"" "$series/series.toml" | tr -d '"' | rsync -a --files-from=- . "$tmp"

make -C "$tmp/$tests" TARGETS=vfio FORCE_TARGETS=1 "-j$(nproc)"
# They name the folder as it is called now.
find "$tmp/$tests/vfio" -name '*.d' -delete
mv "$tmp" "$dir"

#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# distclean.sh removes what is ours, and nothing else.
# shellcheck source=tools/testing/vm/hosts/_lib.sh
. "$(dirname "$0")/_lib.sh"

# fill FOLDER: a cache as it is after a while.
fill() {
	VFIO_MLX5_RUST_CACHE=$1 bash -c '. "$0/common.sh"' "$SCRIPTS"
	mkdir -p "$1"/{build,cargo,target,apt}/folder \
		"$1"/{stock,qemu-source,sources}-0123456789abcdef/folder \
		"$1"/sysroot-0123456789abcdef.tmp/folder "$1"/qemu-source-0123456789abcdef.debs
	: > "$1/locks/sysroot"
}

fill "$CACHE"
expect 'Signature: 8a477f597d28d172789f06886806bc55' "$(head -n 1 "$CACHE/CACHEDIR.TAG")"
"$SCRIPTS/distclean.sh" > "$FOLDER/log"
gone "$CACHE"

# Others' stay.
fill "$CACHE"
mkdir "$CACHE/sources" "$CACHE/stock-of-mine" "$CACHE/mine-0123456789abcdef"
ln -s "$FOLDER" "$CACHE/bare-0123456789abcdef"
expect_in stock-of-mine "$("$SCRIPTS/distclean.sh")"
expect $'CACHEDIR.TAG\nmine-0123456789abcdef\nsources\nstock-of-mine' "$(LC_ALL=C ls -A "$CACHE")"
there "$SCRIPTS"

# In use.
fill "$CACHE"
exec 9> "$CACHE/locks/build"
flock 9
expect_in "in use" "$(refused "$SCRIPTS/distclean.sh")"
exec 9>&-
there "$CACHE/build"

# A folder of somebody's, with a build in it.
mkdir -p "$FOLDER/home/build"
fill "$FOLDER/home"
gone "$FOLDER/home/CACHEDIR.TAG"
VFIO_MLX5_RUST_CACHE=$FOLDER/home expect_in "other files" \
	"$(VFIO_MLX5_RUST_CACHE=$FOLDER/home refused "$SCRIPTS/distclean.sh")"
fill "$FOLDER/alone"
expect_in "no folder to remove" "$(HOME=$FOLDER/alone VFIO_MLX5_RUST_CACHE=$FOLDER/alone \
	refused "$SCRIPTS/distclean.sh")"
there "$FOLDER/home/build" "$FOLDER/alone/build"

# Paths that make does not take.
expect_in "make does not take" "$(VFIO_MLX5_RUST_CACHE="$FOLDER/a b" refused "$SCRIPTS/distclean.sh")"
gone "$FOLDER/a b"

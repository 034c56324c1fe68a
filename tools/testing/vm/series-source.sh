# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The source that a series is laid into, for the script that sources this after common.sh: it is in
# $src, and what is built of it in other folders of $dir.

# shellcheck source=tools/testing/vm/lay.sh
. "$VM_DIR/lay.sh"

# One at a time: source and objects are shared by all checkouts. What the caller has locked stays
# locked until this ends, since its results go to the same folder.
{ exec 8>&9; } 2> /dev/null || true
exec 9<> "$CACHE/locks/series"
take "$CACHE/locks/series" "${0##*/} $*" >&2

dir=$(series_dir)
# shellcheck disable=SC2034 # for those that source this
src=$dir/source
mkdir -p "$dir"

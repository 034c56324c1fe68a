# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Puts what series of patches change into a kernel's source; to be sourced after common.sh.

patch_series() { "$CACHE/build/patch-series" --top "$PLAIN_TOP" "$@"; }

# lay FOLDER SERIES[:NUMBER]: FOLDER/source has what it has after this patch, and nothing else of
# ours. Files whose contents stay are not touched, so that what has not changed is not built again.
lay() {
	local original src=$1/source tree=$1/tree laid=$1/laid file
	original=$(sources_dir)/$INTREE_SOURCE
	if [ ! -e "$src" ]; then
		rm -rf "$src.tmp"
		cp -r --reflink=auto "$original" "$src.tmp"
		mv "$src.tmp" "$src"
	fi
	touch "$laid"
	rm -rf "$tree"
	patch_series tree "$2" --source "$original" --out "$tree"
	(cd "$tree" && find . -type f) | LC_ALL=C sort > "$laid.new"
	# What another one had.
	LC_ALL=C comm -23 "$laid" "$laid.new" | while read -r file; do
		if [ -e "$original/$file" ]; then
			cp "$original/$file" "$src/$file"
		else
			rm -f "$src/$file"
		fi
	done
	# In the list before they are there: if this ends early, the next one finds all of them.
	LC_ALL=C sort -u -o "$laid" "$laid" "$laid.new"
	rsync -r --checksum "$tree/" "$src/"
	mv "$laid.new" "$laid"
}

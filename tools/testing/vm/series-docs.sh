#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Builds the pages that the kernel has after all patches of a series, and after those before it, by
# its own htmldocs: series-docs.sh SERIES... It must have nothing to say about them. Runs in the
# sysroot.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=tools/testing/vm/docs.sh
. "$VM_DIR/docs.sh"

results=$SERIES_WORK/tips
mkdir -p "$SERIES_WORK"

# check SERIES: says what is wrong with its pages.
check() {
	local docs=$PLAIN_TOP/out/series-docs/$1 log=$OUT/log/series-docs-$1.log pages page named
	mapfile -t pages < <(cd "$docs/series" && find Documentation -name '*.rst')
	docs_tree "$docs/tree" "$docs/series"
	cp -r "$docs/series/Documentation/." "$docs/tree/Documentation"
	html_docs "$docs/tree" "$docs/html" "$log"
	warnings_of_docs "$log" vfio-rust/
	for page in "${pages[@]}"; do
		named=${page#Documentation/}
		[ -e "$docs/html/${named%.rst}.html" ] || echo "$page has not been built"
		# What it names must be there, in the series or in the kernel.
		[[ $page == */vfio-rust/* ]] || continue
		while read -r named; do
			[ -e "$docs/series/$named" ] || [ -e "$kernel/$named" ] || echo "$page names $named"
		done < <(grep -oE '\b(Documentation|drivers|include|samples|tools|rust)/[A-Za-z0-9_./-]*[A-Za-z0-9_]' \
			"$docs/series/$page" | sort -u)
	done
}

bad=
for series; do
	docs=$PLAIN_TOP/out/series-docs/$series
	rm -rf "$docs"
	mkdir -p "$docs"
	"$CACHE/build/patch-series" --top "$PLAIN_TOP" tree "$series" --source "$kernel" --out "$docs/series"
	[ -e "$docs/series/Documentation" ] || continue
	said=$(check "$series") || said+=$'\nnot all was checked'
	if [ -z "$said" ]; then
		echo "ok $series: pages"
		printf '%s\tdocs\tok\n' "$series" >> "$results"
	else
		printf 'not ok %s: pages\n%s\n' "$series" "$said"
		printf '%s\tdocs\tfailed\n' "$series" >> "$results"
		bad=yes
	fi
done
[ -z "$bad" ] || exit 1

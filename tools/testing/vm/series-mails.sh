#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Writes series as mails, to out/series/NAME, and has the kernel's scripts look at them:
#
#   series-mails.sh AUTHOR SERIES...
#
# AUTHOR is "NAME <ADDRESS>". What checkpatch.pl and get_maintainer.pl say of each patch is in
# out/series/checks, a line for each: SERIES:NUMBER, errors, warnings, checks, and how many people
# and lists the patch would go to, with tabs between them. Who these are for a whole series is in
# out/series/recipients/SERIES, an address a line. Runs in the sysroot.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"

src=$(sources_dir)/$INTREE_SOURCE
tools=$(series_tools_dir)
export PATH="$tools/usr/bin:$PATH" GIT_EXEC_PATH="$tools/usr/lib/git-core"
export GIT_TEMPLATE_DIR="$tools/usr/share/git-core/templates"
out=$OUT/series
mkdir -p "$out"

"$CACHE/build/patch-series" --top "$PLAIN_TOP" write --source "$src" --out "$out" --author "$1" "${@:2}"

# count SERIES: of its patches.
count() { find "$out/$1" -name '[0-9]*.patch' ! -name '0000-*' | wc -l; }

# maintainers SERIES:NUMBER MAIL: how many there are, by the MAINTAINERS that the patch leaves. Adds
# them to those of the series.
maintainers() {
	local series=${1%:*}
	git -C "$out/repository" show "$series~$(($(count "$series") - number)):MAINTAINERS" > "$out/MAINTAINERS"
	(cd "$src" && perl scripts/get_maintainer.pl --no-git --no-git-fallback --no-rolestats --no-n \
		"--mpath=$out/MAINTAINERS" "$2") | sed 's/.*<\(.*\)>.*/\1/' | grep @ | tee -a "$out/recipients/$series" |
		wc -l || true
}

bad=
rm -rf "$out/recipients"
mkdir "$out/recipients"
for series in "${@:2}"; do
	: > "$out/recipients/$series"
done
: > "$out/checks"
while read -r id name _; do
	series=${id%:*} number=${id#*:}
	[[ " ${*:2} " == *" $series "* ]] || continue
	end_with_make
	mail=$(find "$out/$series" -name "$(printf '%04d' "$number")-*.patch")
	# FILE_PATH_CHANGES asks for MAINTAINERS, which a patch before may have changed. Commits are
	# unknown, since the history of the kernel is not here.
	ignore=FILE_PATH_CHANGES,UNKNOWN_COMMIT_ID
	# TRACE_EVENT() has a layout of its own, in the kernel as well.
	! grep -q '^+TRACE_EVENT(' "$mail" || ignore+=,PARENTHESIS_ALIGNMENT,OPEN_ENDED_LINE
	# It says nothing where there is nothing.
	said=$(cd "$src"; perl scripts/checkpatch.pl --strict --terse --ignore "$ignore" "$mail" || true)
	total=$(sed -nE 's/.*total: ([0-9]+) errors, ([0-9]+) warnings, ([0-9]+) checks.*/\1\t\2\t\3/p' <<< "$said")
	[ -n "$said" ] || total=$'0\t0\t0'
	printf '%s\t%s\t%s\n' "$id" "${total:-unknown}" "$(maintainers "$id" "$mail")" >> "$out/checks"
	if [ "$total" != $'0\t0\t0' ]; then
		bad=yes
		printf '%s (%s):\n%s\n' "$id" "$name" "$said"
	fi
done < <("$CACHE/build/patch-series" --top "$PLAIN_TOP" list)
for series in "${@:2}"; do
	LC_ALL=C sort -u -o "$out/recipients/$series" "$out/recipients/$series"
done
[ -z "$bad" ] || exit 1

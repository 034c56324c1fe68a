#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Writes series as mails, and has the kernel's scripts look at them:
#
#   series-mails.sh AUTHOR SERIES...
#
# AUTHOR is "NAME <ADDRESS>". The mails of a series are in $SERIES_WORK/mails/SERIES. Who they go
# to is in $SERIES_WORK/recipients/SERIES, an address a line. What checkpatch.pl and
# get_maintainer.pl say of each patch is in $SERIES_WORK/checks, a line for each: SERIES:NUMBER,
# errors, warnings, checks, and how many people and lists the patch would go to beside linux-kernel,
# to which all patches go, with tabs between them; that file is there once all the rest is. Runs in
# the sysroot.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"

src=$(sources_dir)/$INTREE_SOURCE
tools=$(series_tools_dir)
export PATH="$tools/usr/bin:$PATH" GIT_EXEC_PATH="$tools/usr/lib/git-core"
export GIT_TEMPLATE_DIR="$tools/usr/share/git-core/templates"
mails=$SERIES_WORK/mails
recipients=$SERIES_WORK/recipients
checks=$SERIES_WORK/checks
mkdir -p "$mails" "$recipients"
rm -f "$checks"

"$CACHE/build/patch-series" --top "$PLAIN_TOP" write --source "$src" --out "$mails" --author "$1" "${@:2}"

# count SERIES: of its patches.
count() { find "$mails/$1" -name '[0-9]*.patch' ! -name '0000-*' | wc -l; }

# maintainers SERIES:NUMBER MAIL: how many there are, by the MAINTAINERS that the patch leaves. Adds
# them to those of the series.
maintainers() {
	local series=${1%:*}
	git -C "$mails/repository" show "$series~$(($(count "$series") - number)):MAINTAINERS" > "$SERIES_WORK/MAINTAINERS"
	(cd "$src" && perl scripts/get_maintainer.pl --no-git --no-git-fallback --no-rolestats --no-n \
		"--mpath=$SERIES_WORK/MAINTAINERS" "$2") | sed 's/.*<\(.*\)>.*/\1/' | grep @ |
		tee -a "$recipients/$series" | grep -vc '^linux-kernel@vger' || true
}

bad=
for series in "${@:2}"; do
	: > "$recipients/$series"
done
: > "$checks.tmp"
while read -r id name _; do
	series=${id%:*} number=${id#*:}
	[[ " ${*:2} " == *" $series "* ]] || continue
	end_with_make
	mail=$(find "$mails/$series" -name "$(printf '%04d' "$number")-*.patch")
	# FILE_PATH_CHANGES asks for MAINTAINERS, which a patch before may have changed. Commits are
	# unknown, since the history of the kernel is not here.
	ignore=FILE_PATH_CHANGES,UNKNOWN_COMMIT_ID
	# TRACE_EVENT() has a layout of its own, in the kernel as well.
	! grep -q '^+TRACE_EVENT(' "$mail" || ignore+=,PARENTHESIS_ALIGNMENT,OPEN_ENDED_LINE
	status=0
	said=$(cd "$src" && perl scripts/checkpatch.pl --strict --terse --ignore "$ignore" "$mail") || status=$?
	total=$(sed -nE 's/.*total: ([0-9]+) errors, ([0-9]+) warnings, ([0-9]+) checks.*/\1\t\2\t\3/p' <<< "$said")
	# It says nothing if there is nothing.
	[ -n "$said" ] || [ "$status" != 0 ] || total=$'0\t0\t0'
	printf '%s\t%s\t%s\n' "$id" "${total:-unknown}" "$(maintainers "$id" "$mail")" >> "$checks.tmp"
	if [ "$total" != $'0\t0\t0' ]; then
		bad=yes
		printf '%s (%s):\n%s\n' "$id" "$name" "$said"
	fi
done < <("$CACHE/build/patch-series" --top "$PLAIN_TOP" list)
for series in "${@:2}"; do
	LC_ALL=C sort -u -o "$recipients/$series" "$recipients/$series"
done
mv "$checks.tmp" "$checks"
[ -z "$bad" ] || exit 1

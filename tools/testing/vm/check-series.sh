#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Writes the series as mails, builds the kernel after each patch, runs their tests, and boots what
# each series leaves:
#
#   check-series.sh [mails]
#
# With "mails", it only writes them. $AUTHOR is who signs off; git knows the user's. $SERIES can be
# one series, or a part of the names of some. Mails and recipients of all that are wanted get to
# out/series at once, and those of others stay there. What came of it is in
# out/series/report.json.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"
enter=$VM_DIR/enter.sh

[ "${1:-mails}" = mails ] || die "check-series.sh [mails]"
author=$("$VM_DIR/names.sh" author)
series=$("$VM_DIR/names.sh" SERIES | grep -F -e "${SERIES:-}") || die "no series has SERIES=$SERIES in its name"
mapfile -t series <<< "$series"
# One at a time in a checkout: results are in the same folder.
alone "series-$(key "$TOP")" check-series.sh "$@"

# What a signal leaves, for a person.
left="Nothing in $(quoted "$OUT/series") has changed; the same command begins with the patches again."
running=
# end SIGNAL: ends what runs, and then this shell as the signal does.
# shellcheck disable=SC2317 # it is called by traps
end() {
	trap - INT TERM HUP
	[ -z "$running" ] || kill -- "-$running" 2> /dev/null || true
	printf '\n%s\n' "$left" >&2
	kill -s "$1" $$
}
heed() { trap 'end INT' INT && trap 'end TERM' TERM && trap 'end HUP' HUP; }
heed
# run COMMAND...: in the background, since a shell that waits for a command hears no signal before
# that has ended. It is a process group of its own, in which builds and machines end with it.
run() {
	local status=0
	set -m
	"$@" < /dev/null &
	running=$!
	set +m
	wait "$running" || status=$?
	running=
	return "$status"
}

# Results are of what the tree has now. The sysroot does not have what a link leads to.
if [ -L "$OUT/series" ] || ! rm -rf "$SERIES_WORK" || ! mkdir -p "$SERIES_WORK/old" "$OUT/series/recipients"; then
	die "the series cannot be written to $(quoted "$OUT/series"); move it away:
    mv $(quoted "$OUT/series") $(quoted "$OUT/series.old")"
fi
status=0
run "$enter" "$VM_DIR/check-patches.sh"
run "$enter" "$VM_DIR/series-mails.sh" "$author" "${series[@]}" || status=$?
# What is wrong with them is found once all of them are there.
if [ ! -e "$SERIES_WORK/checks" ]; then
	[ "$status" != 0 ] || die "the sysroot has not written to $(quoted "$SERIES_WORK")"
	exit "$status"
fi

# put SERIES...: their mails and recipients to where a person finds them, by renaming them only,
# which no signal divides. A report on those that were there before is none on these.
put() {
	local one
	trap '' INT TERM HUP
	rm -f "$OUT/series/report.json"
	for one; do
		[ ! -e "$OUT/series/$one" ] || mv "$OUT/series/$one" "$SERIES_WORK/old/$one"
		mv "$SERIES_WORK/mails/$one" "$OUT/series/$one"
		mv "$SERIES_WORK/recipients/$one" "$OUT/series/recipients/$one"
	done
	left="The mails in $(quoted "$OUT/series") are complete; the same command begins with them again."
	heed
}
put "${series[@]}"

# boot SERIES: its kernel boots, and selftests of migration pass with each driver that it has.
boot() {
	local log=$OUT/log/series-boot-$1.log
	echo "building and booting what $1 leaves; the log is $(quoted "$log")"
	run "$enter" "$VM_DIR/series-boot.sh" "$1" > "$log" 2>&1 || { tail -n 20 "$log"; return 1; }
	VM_TIP=$1 run "$VM_DIR/vm-test.sh" scenario --kernel=intree -- selftests-each
}

if [ "${1:-}" != mails ]; then
	run "$enter" "$VM_DIR/series.sh" "${series[@]}" || status=$?
	end_with_make
	run "$enter" "$VM_DIR/series-docs.sh" "${series[@]}" || status=$?
	for one in "${series[@]}"; do
		end_with_make
		run "$VM_DIR/series-tests.sh" "$one" || status=1
		result=ok
		boot "$one" || result=failed status=1
		printf '%s\tselftests\t%s\n' "$one" "$result" >> "$SERIES_WORK/tips"
	done
fi
end_with_make
run "$enter" "$CACHE/build/patch-series" --top "$PLAIN_TOP" report "$SERIES_WORK" \
	--out "$OUT/series/report.json" "${series[@]}" || status=$?
echo "The mails are in $(quoted "$OUT/series")"
exit "$status"

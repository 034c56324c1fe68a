#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Writes the series as mails, builds the kernel after each patch, runs their tests, and boots what
# each series leaves:
#
#   check-series.sh [mails]
#
# With "mails", it only writes them. $AUTHOR is who signs off; git knows the user's. $SERIES can be
# one series, or a part of the names of some. What came of it is in out/series/report.json.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"
enter=$VM_DIR/enter.sh

author=$("$VM_DIR/names.sh" author)
mapfile -t series < <("$VM_DIR/names.sh" SERIES | grep -F -e "${SERIES:-}")
# One at a time in a checkout: results are in the same folder.
alone "series-$(key "$TOP")" check-series.sh "$@"

# Results are of what the tree has now.
if ! rm -rf "$OUT/series" || ! mkdir -p "$OUT/series"; then
	die "the series cannot be written to $OUT/series"
fi
status=0
"$enter" "$VM_DIR/check-patches.sh"
"$enter" "$VM_DIR/series-mails.sh" "$author" "${series[@]}" || status=$?
# What is wrong with them is found once all of them are there.
[ -e "$OUT/series/checks" ] || exit "$status"

# boot SERIES: its kernel boots, and selftests of migration pass with each driver that it has.
boot() {
	local log=$OUT/log/series-boot-$1.log
	echo "building and booting what $1 leaves; the log is $log"
	"$enter" "$VM_DIR/series-boot.sh" "$1" > "$log" 2>&1 || { tail -n 20 "$log"; return 1; }
	VM_TIP=$1 "$VM_DIR/vm-test.sh" scenario --kernel=intree -- selftests-each
}

if [ "${1:-}" != mails ]; then
	"$enter" "$VM_DIR/series.sh" "${series[@]}" || status=$?
	end_with_make
	"$enter" "$VM_DIR/series-docs.sh" "${series[@]}" || status=$?
	for one in "${series[@]}"; do
		end_with_make
		"$VM_DIR/series-tests.sh" "$one" || status=1
		result=ok
		boot "$one" || result=failed status=1
		printf '%s\tselftests\t%s\n' "$one" "$result" >> "$OUT/series/tips"
	done
fi
end_with_make
"$enter" "$CACHE/build/patch-series" --top "$PLAIN_TOP" report "$OUT/series" "${series[@]}" || status=$?
exit "$status"

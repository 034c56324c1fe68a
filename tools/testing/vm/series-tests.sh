#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Runs the tests of a series of fixes: series-tests.sh SERIES. Each must fail on the in-tree
# kernel, which has no fix, and pass on that with all fixes. What came of it is in
# $SERIES_WORK/tests, a line for each: its name, what it does before ("fails", "passes", or
# "unknown", for want of the kernel), and after ("passes", "fails"), with tabs between them.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"

# How often a test may pass before: some faults are races.
TRIES=5
# Those of another series stay.
results=$SERIES_WORK/tests
log=$OUT/log/series-tests-$1.log

# tap KERNEL SCENARIO: what the machine has said. A line from its serial port ends with a carriage
# return.
tap() { sed 's/\r$//' "$OUT/vm/$1-$2/results.tap" 2> /dev/null || true; }

# run KERNEL SCENARIO ARGUMENT...
run() {
	# If there is no machine, nothing is to be read of the one before.
	rm -f "$OUT/vm/$1-$2/results.tap"
	"$VM_DIR/vm-test.sh" scenario "--kernel=$1" "${@:3}" -- "$2" >> "$log" 2>&1
}

# fails KERNEL SCENARIO TEST: whether it does, at least once. A machine that does not come to the
# test says nothing about it.
fails() {
	local try
	for ((try = 0; try < TRIES; try++)); do
		run "$1" "$2" "--only=$3" || ! grep -qxF -e "@progress $3" <<< "$(tap "$1" "$2")" || return 0
	done
	return 1
}

tests=$("$VM_DIR/enter.sh" "$CACHE/build/patch-series" --top "$PLAIN_TOP" tests "$1")
[ -n "$tests" ] || exit 0
mapfile -t tests <<< "$tests"
mkdir -p "$SERIES_WORK"
: > "$log"

# With all fixes, one machine runs all tests of a scenario.
declare -A ran=()
for test in "${tests[@]}"; do
	scenario=${test%%:*} scenario=${scenario#*-}
	[ -z "${ran[$scenario]:-}" ] || continue
	ran[$scenario]=yes
	echo "$scenario, with all fixes; the log is $(quoted "$log")"
	run fixed "$scenario" || true
done

bad=
for test in "${tests[@]}"; do
	name=${test#*:} kernel=${test%%-*} scenario=${test%%:*} scenario=${scenario#*-}
	after=fails
	passed=$(tap fixed "$scenario" | sed -nE 's/^ok [0-9]+ //p')
	! grep -qxF -e "$name" <<< "$passed" || after=passes
	before=passes
	if [ "$kernel" = debug ] && [ ! -e "$(debug_dir)/objects/arch/x86/boot/bzImage" ]; then
		before=unknown
	elif fails "$kernel" "$scenario" "$name"; then
		before=fails
	fi
	printf '%s\t%s\t%s\n' "$test" "$before" "$after" >> "$results"
	echo "$name: before: $before, after: $after"
	[ "$before" != passes ] && [ "$after" = passes ] || bad=yes
done
[ -z "$bad" ] || exit 1

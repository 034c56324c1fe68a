#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The tests of fixes: a machine that does not come to a test is not one in which that fails, and
# what was found of one series stays when another one is tried.
# shellcheck source=tools/testing/vm/hosts/_lib.sh
. "$(dirname "$0")/_lib.sh"
# shellcheck source=tools/testing/vm/common.sh
. "$SCRIPTS/common.sh"

cat > "$SCRIPTS/enter.sh" <<- 'END'
	#!/bin/sh
	exec "$@"
END
mkdir -p "$CACHE/build"
cat > "$CACHE/build/patch-series" <<- 'END'
	#!/bin/bash
	# --top FOLDER tests SERIES
	case $4 in
	fixes) printf '%s\n' 'intree-c-driver:a fault' 'debug-c-driver:a race' ;;
	others) echo 'intree-life:a leak' ;;
	broken) exit 1 ;;
	esac
END
# Machines with the fixes pass all tests, and others fail the one that is asked for: the kernel
# dies. With $FOLDER/none, there is no machine; with $FOLDER/dies, it does not come to the test.
cat > "$SCRIPTS/vm-test.sh" <<- 'END'
	#!/bin/bash
	. "$(dirname "$0")/common.sh"
	kernel=${2#--kernel=} scenario=${@: -1} only=${3#--only=}
	[ ! -e "$FOLDER/none" ] || exit 1
	mkdir -p "$OUT/vm/$kernel-$scenario"
	exec > "$OUT/vm/$kernel-$scenario/results.tap"
	printf '@progress the modules load\r\nok 1 the modules load\r\n'
	[ ! -e "$FOLDER/dies" ] || exit 1
	if [ "$kernel" = fixed ]; then
		printf 'ok %s\r\n' '2 a fault' '3 a race' '4 a leak'
	else
		printf '@progress %s\r\n' "$only"
		exit 1
	fi
END
chmod +x "$CACHE/build/patch-series" "$SCRIPTS/vm-test.sh"
export FOLDER
found="$SERIES_WORK/tests"
try() { "$SCRIPTS/series-tests.sh" "$1" > "$FOLDER/log" 2>&1 || { cat "$FOLDER/log"; exit 1; }; }

try fixes
wanted=$'intree-c-driver:a fault\tfails\tpasses\ndebug-c-driver:a race\tunknown\tpasses'
expect "$wanted" "$(cat "$found")"
# A series without tests, and one with some.
try rust
expect "$wanted" "$(cat "$found")"
try others
expect "$wanted"$'\nintree-life:a leak\tfails\tpasses' "$(cat "$found")"
there "$OUT/log/series-tests-fixes.log" "$OUT/log/series-tests-others.log"

# Without a machine, what one has said before is not what this one says.
: > "$FOLDER/none"
rm "$found"
expect_in "before: passes, after: fails" "$(refused "$SCRIPTS/series-tests.sh" others)"
expect $'intree-life:a leak\tpasses\tfails' "$(cat "$found")"
rm "$FOLDER/none"
: > "$FOLDER/dies"
expect_in "before: passes, after: fails" "$(refused "$SCRIPTS/series-tests.sh" others)"
rm "$FOLDER/dies"

# A list of tests that cannot be had is not an empty one.
refused "$SCRIPTS/series-tests.sh" broken > "$FOLDER/log"

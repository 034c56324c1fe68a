#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# What is built of a series: who waits for the source that all checkouts share is told for whom, and
# a checkout stays locked as long as results come to it.
# shellcheck source=tools/testing/vm/hosts/_lib.sh
. "$(dirname "$0")/_lib.sh"
# shellcheck source=tools/testing/vm/common.sh
. "$SCRIPTS/common.sh"

# A script like series.sh, which waits in the end.
cat > "$SCRIPTS/build.sh" <<- 'END'
	#!/bin/bash
	. "$(dirname "$0")/common.sh"
	. "$VM_DIR/series-source.sh"
	: > "$FOLDER/started"
	[ ! -e "$FOLDER/slow" ] || sleep 1000
END
export FOLDER
is_free() { flock --nonblock "$CACHE/locks/$1" true; }

# By hand, without a lock.
"$SCRIPTS/build.sh" one 2> "$FOLDER/log"
expect '' "$(cat "$FOLDER/log")"
rm "$FOLDER/started"

: > "$FOLDER/slow"
alone checkout check-series.sh
begin "$SCRIPTS/build.sh" one other
first=$made
# Its caller is killed.
exec 9>&-
! is_free checkout || expect locked free
! is_free series || expect locked free

rm "$FOLDER/slow" "$FOLDER/started"
"$SCRIPTS/build.sh" third > "$FOLDER/waits" 2>&1 &
waiting=$!
for _ in {1..200}; do
	[ ! -s "$FOLDER/waits" ] || break
	sleep 0.05
done
expect "$WAITING: process $first, build.sh one other" "$(cat "$FOLDER/waits")"
kill -- -$first
wait $waiting
there "$FOLDER/started"
is_free checkout

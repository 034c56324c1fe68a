#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make series replaces what is there of the series that it is asked for, at once, and nothing else.
# shellcheck source=tools/testing/vm/hosts/_lib.sh
. "$(dirname "$0")/_lib.sh"

# Three series, and scripts that write mails without a kernel; the second one waits before them.
mkdir -p "$CHECKOUT"/tools/series/{one,other,third} "$CACHE/build"
touch "$CHECKOUT"/tools/series/{one,other,third}/series.toml
cat > "$SCRIPTS/enter.sh" <<- 'END'
	#!/bin/sh
	exec "$@"
END
cat > "$SCRIPTS/check-patches.sh" <<< '#!/bin/sh'
cat > "$SCRIPTS/series-mails.sh" <<- 'END'
	#!/bin/bash
	. "$(dirname "$0")/common.sh"
	for series in "${@:2}"; do
		mkdir -p "$SERIES_WORK/mails/$series" "$SERIES_WORK/recipients"
		echo new > "$SERIES_WORK/mails/$series/0000-cover-letter.patch"
		echo new > "$SERIES_WORK/recipients/$series"
		[ ! -e "$FOLDER/slow" ] || { sleep 1000 & echo $! > "$FOLDER/started.new" && mv "$FOLDER/started"{.new,} && wait; }
	done
	[ ! -e "$FOLDER/elsewhere" ] || exit 0
	: > "$SERIES_WORK/checks"
	[ ! -e "$FOLDER/unclean" ]
END
cat > "$CACHE/build/patch-series" <<- 'END'
	#!/bin/bash
	# --top FOLDER report FOLDER --out FILE SERIES...
	echo "${*:7}" > "$6"
END
chmod +x "$CACHE/build/patch-series"
export FOLDER AUTHOR='Jane Doe <jane@example.org>' SERIES=o
out="$CHECKOUT/out/series"
work="$out/.work"

# edited: what a person has of all series, after a run before.
edited() {
	local series
	rm -rf "$out"
	mkdir -p "$out/recipients"
	for series in one other third; do
		mkdir "$out/$series"
		echo edited > "$out/$series/0000-cover-letter.patch"
		echo edited > "$out/recipients/$series"
	done
	echo old > "$out/report.json"
}
# has WORD SERIES...: these have it in mails and recipients.
has() {
	local series
	for series in "${@:2}"; do
		expect "$1" "$(cat "$out/$series/0000-cover-letter.patch")"
		expect "$1" "$(cat "$out/recipients/$series")"
	done
}

edited
expect_in "The mails are in '$out'" "$("$SCRIPTS/check-series.sh" mails)"
has new one other
has edited third
expect "one other" "$(cat "$out/report.json")"
expect $'one\nother\nrecipients\nreport.json\nthird' "$(LC_ALL=C ls "$out")"

# What the kernel's scripts find fault with is there as well.
edited
: > "$FOLDER/unclean"
expect_in "The mails are in '$out'" "$(refused "$SCRIPTS/check-series.sh" mails)"
has new one other
expect "one other" "$(cat "$out/report.json")"

# A signal leaves all as it was, and says so, if it comes before all mails are there.
: > "$FOLDER/slow"
for signal in INT TERM; do
	edited
	rm -f "$FOLDER/started"
	# Who runs this may ignore it.
	begin env --default-signal=INT "$SCRIPTS/check-series.sh" mails
	# To all, as from a terminal, or to the script alone, as from make.
	if [ $signal = INT ]; then kill -s INT -- -$made; else kill -s TERM $made; fi
	status=0
	wait $made 2> /dev/null || status=$?
	expect $((128 + $(kill -l $signal))) $status
	expect_in "Nothing in '$out' has changed; the same command" "$(cat "$FOLDER/log")"
	has edited one other third
	expect old "$(cat "$out/report.json")"
	# What the scripts have started has ended, too.
	child=$(cat "$FOLDER/started")
	runs() { case $(ps -o stat= "$child") in '' | Z*) return 1 ;; esac; }
	for _ in {1..100}; do
		runs || break
		sleep 0.05
	done
	expect "" "$(runs && ps "$child")"
done
# And the next run goes well.
rm "$FOLDER/slow" "$FOLDER/unclean"
"$SCRIPTS/check-series.sh" mails > "$FOLDER/log" 2>&1
has new one other
there "$work"

# Mails that are not there are an error, whatever the status is.
: > "$FOLDER/elsewhere"
edited
expect_in "has not written to '$work'" "$(refused "$SCRIPTS/check-series.sh" mails)"
has edited one other third
rm "$FOLDER/elsewhere"

# Neither a name that no series has nor another word is for all of them.
expect_in "SERIES=nosuch" "$(SERIES=nosuch refused "$SCRIPTS/check-series.sh" mails)"
expect_in "[mails]" "$(refused "$SCRIPTS/check-series.sh" mail)"
has edited one other third

# A link leads out of the sysroot.
mv "$out" "$FOLDER/series"
ln -s "$FOLDER/series" "$out"
expect_in "mv '$out' '$out.old'" "$(refused "$SCRIPTS/check-series.sh" mails)"

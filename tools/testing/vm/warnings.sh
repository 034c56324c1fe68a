# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Keeps what builds warn of; to be sourced.
#
# A compiler warns once: the next build finds the object and says nothing. So a
# build with a warning in it does not count: our objects are removed before the
# next one, until one ends without a warning. check-warnings.sh fails as long as
# there is one.

WARNINGS=$CACHE/build/warnings

# warnings_in WORDS < LOG: the lines that warn of something with one of the words
# (an extended regular expression) in it, or in the lines that say where it is.
warnings_in() {
	awk -v words="$1" '
		/[0-9]+ warnings? emitted|generated [0-9]+ warning/ { next }
		/warning[:[]|WARNING:/ { text = $0; left = 3 }
		left && $0 ~ words {
			print text == $0 ? text : text " " $0
			left = 0
		}
		left { left-- }
	'
}

# noting NAME WORDS FOLDER... -- COMMAND...: runs a build, and notes its warnings
# that have one of the words. Our objects are below the folders.
noting() {
	local name=$1 words=$2 folders=()
	shift 2
	while [ "$1" != -- ]; do
		folders+=("$1")
		shift
	done
	shift
	mkdir -p "$WARNINGS"
	# What an older build has said may not have been noted.
	if [ ! -e "$WARNINGS/$name" ] || [ -s "$WARNINGS/$name" ]; then
		for folder in "${folders[@]}"; do
			[ ! -e "$folder" ] || find "$folder" -name '*.o' -delete
		done
	fi
	# What a build says that does not come to its end is lost.
	echo "the build did not end" > "$WARNINGS/$name"
	"$@" 2>&1 | tee "$WARNINGS/$name.log"
	warnings_in "$words" < "$WARNINGS/$name.log" > "$WARNINGS/$name.new"
	mv "$WARNINGS/$name.new" "$WARNINGS/$name"
}

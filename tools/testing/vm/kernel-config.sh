# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Configurations of kernels with our files in their tree; to be sourced.

# our_options WORD: the options that make our modules, from Kconfig, each =WORD. Those of KUnit
# tests are not among them.
our_options() {
	local folder
	our_folders | while read -r folder; do
		awk -v folder="$folder" -v word="$1" '
			/^config / { name = $2 }
			/^\ttristate/ && name !~ /KUNIT_TEST$/ { print "CONFIG_" name "=" word }
		' "$TOP/$folder/Kconfig"
	done
}

# our_kunit_options: those of KUnit tests.
our_kunit_options() {
	local folder
	our_folders | while read -r folder; do
		sed -n 's/^config \(.*KUNIT_TEST\)$/CONFIG_\1=y/p' "$TOP/$folder/Kconfig"
	done
}

# configure OBJECTS FILE COMMAND... < LINES: configures, by make, which is COMMAND, with LINES
# on top of tinyconfig, if they are not those of the last time. What was asked for and is not
# there would go unnoticed: FILE is where to mend it.
configure() {
	local objects=$1 file=$2 config=$1/.config lines line
	shift 2
	lines=$(cat)
	[ ! -e "$objects/wanted" ] || [ "$lines" != "$(cat "$objects/wanted")" ] || return 0
	mkdir -p "$objects"
	rm -f "$objects/wanted"
	"$@" tinyconfig
	printf '%s\n' "$lines" >> "$config"
	"$@" olddefconfig
	while read -r line; do
		grep -qxF "$line" "$config" || die "$line is not possible: adapt $file"
	done < <(grep -E '^CONFIG_[A-Z0-9_]+=[^n]' <<< "$lines")
	printf '%s\n' "$lines" > "$objects/wanted"
}

#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Lists names before anything is built: they are read from the tables of the sources, which
# rustfmt keeps in one form. A test compares them with those that vm-test has.
#
#   names.sh list           all scenarios, for a person
#   names.sh table          the same, with tabs between columns
#   names.sh VARIABLE       what TEST=, KERNEL=, SCENARIO=, BENCH=, PART=, SLICE=, MUTANT=,
#                           FAULT=, FUZZ= or SERIES= can be, SLICE= without its seed:
#                           SCENARIO= for $KERNEL, TEST= for $TARGET if that is check-all
#   names.sh author         who signs off: $AUTHOR or, without it, whom git knows
#   names.sh takes TARGET   the variables of a make target
#   names.sh judge TARGET   an error if one of them is wrong, or if make was given ($GIVEN) a
#                           variable that none of its targets ($GOALS) takes, or an empty one
#   names.sh no-target      an error: make has no such target ($GOALS)
set -euo pipefail
vm=$(dirname "$0")

# The table of scenarios: name, kernels, make target, seconds, sentence.
table() {
	awk '
		/^pub const ALL/, /^\];/ {
			# A string goes on in the next line after a backslash.
			sub(/^ +/, ""); sub(/\\$/, "")
			entry = entry $0
		}
		/^Scenario \{/ { entry = "" }
		/^suite: / { sub(/suite: Suite::/, ""); sub(/,/, ""); suite = $0 }
		/^kernels: / { sub(/kernels: /, ""); gsub(/[&\[\],]/, ""); kernels = tolower($0) }
		/^seconds: / {
			name = about = entry
			sub(/^name: "/, "", name); sub(/".*/, "", name)
			sub(/^[^,]*,about: ?"/, "", about); sub(/",suite: .*/, "", about)
			gsub(/[A-Z]/, "-&", suite)
			sub(/measured/, "stock bare", kernels)
			sub(/also_builtin/, "stock intree builtin", kernels)
			sub(/also_debug/, "stock intree debug", kernels)
			sub(/also_both/, "stock intree builtin debug", kernels)
			sub(/both/, "stock intree", kernels)
			gsub(/[^0-9]/, "")
			printf "%s\t%s\t%s\t%s\t%s\n", name, kernels, tolower(substr(suite, 2)), $0, about
		}' "$vm/common/src/scenarios.rs"
}

# Make targets that have scenarios.
ALL_TARGETS='run run-net check check-qemu check-qemu-faults check-net check-deb campaign bench scenario'

# scenarios KERNEL MAKE-TARGET...: those of the targets that run with a kernel.
scenarios() {
	table | awk -F '\t' -v kernel="$1" -v targets=" ${*:2} " '
		index(targets, " " $3 " ") && (index(" " $2 " ", " " kernel " ") ||
			kernel == "bare" && $2 ~ /^stock intree/ && $3 == "check") { print $1 }'
}

# groups: of tests.
groups() {
	local kernel kernels='stock intree' targets=check long=LONG_COMMANDS
	if [ "${TARGET:-}" = check-all ]; then
		kernels='stock intree bare builtin debug'
		targets='check check-qemu check-qemu-faults check-net campaign'
		long=
	fi
	sed -n "/const ${long:-NONE}/,/^}\?\]/d"';s/^ \+name: "\(.*\)",$/\1/p; s/^.*const \(CARGO\|FUZZ\): &str = "\(.*\)";$/\2/p' \
		"$vm/src/check/groups.rs"
	for kernel in $kernels; do
		# shellcheck disable=SC2086 # a list of words
		scenarios "$kernel" $targets | sed "s/^/$kernel-/"
	done
}

# machines: those of a campaign, KERNEL-SCENARIO.
machines() {
	local kernel of_parts
	of_parts=$(sed -n '/^pub const ALL/,/^];/p' "$vm/src/campaign/parts.rs" |
		grep -o '("[^"]*", ' | cut -d '"' -f 2)
	for kernel in $(names KERNEL); do
		# shellcheck disable=SC2086 # a list of words
		scenarios "${kernel/#debug/intree}" $ALL_TARGETS | { grep -Fx -e "$of_parts" || true; } |
			sed "s/^/$kernel-/"
	done
}

# c_driver: the faults of the C driver that $SCENARIO shows, or all.
c_driver() {
	local of
	case ${SCENARIO:-} in
	c-driver) of=usual ;;
	c-driver-bounced) of=bounced ;;
	c-driver-flood) of=flooded ;;
	'') of='usual\|bounced\|flooded' ;;
	*) return ;;
	esac
	sed -n 's/^    \('"$of"'\)("\(.*\)"),$/\2/p' "$vm/common/src/c_driver.rs"
}

# names VARIABLE
names() {
	case $1 in
	TEST) groups ;;
	KERNEL) sed -n 's/^            Self::.* => "\(.*\)",$/\1/p' "$vm/common/src/kernel.rs" ;;
	SCENARIO)
		[ -n "${KERNEL:-}" ] || { table | cut -f 1 && return; }
		# With the one, what is for the other can run, too.
		# shellcheck disable=SC2086 # a list of words
		scenarios "${KERNEL/#debug/intree}" $ALL_TARGETS
		;;
	BENCH) sed -n 's/^        name: "\(.*\)",$/\1/p' "$vm/src/bench/mod.rs" ;;
	PART) sed -n 's/^        name: "\(.*\)",$/\1/p' "$vm/src/campaign/parts.rs" ;;
	SLICE) machines ;;
	MUTANT)
		sed -n 's/^mutant //p' "$vm"/../mutants/*.txt
		echo cargo-mutants
		;;
	SERIES)
		for series in "$vm"/../../series/*/series.toml; do
			basename "$(dirname "$series")"
		done
		;;
	FUZZ) sed -n 's/^    Target { name: "\([^"]*\)".*/\1/p' "$vm/../fuzz/src/lib.rs" ;;
	FAULT)
		[ "${TARGET:-}" != scenario ] || { c_driver && return; }
		sed -n '/^pub const ALL/,/^];/s/.*\(intact\|one_reset\|vf_removed\)("\(.*\)").*/\2/p' \
			"$vm/common/src/faults.rs"
		;;
	esac
}

# near NAME: which of the names in standard input were likely meant: those with the part that is
# nearest to it. If all are too far away, none, and if a part of many names is near, only those
# that are near as a whole. Distances are numbers of characters that are wrong, missing or too many,
# in small or capital letters.
near() {
	NAME=$1 awk '
		function least(a, b, c) { return a < b ? (a < c ? a : c) : (b < c ? b : c) }
		# To all of "to", or to the nearest part of it.
		function distance(from, to, of_part, i, j, row, above, left, best) {
			for (j = 0; j <= length(to); j++) row[j] = of_part ? 0 : j
			for (i = 1; i <= length(from); i++) {
				above = row[0]
				row[0] = i
				for (j = 1; j <= length(to); j++) {
					left = above + (substr(from, i, 1) != substr(to, j, 1))
					above = row[j]
					row[j] = least(left, above + 1, row[j - 1] + 1)
				}
			}
			best = row[length(to)]
			for (j = 0; of_part && j <= length(to); j++) best = row[j] < best ? row[j] : best
			return best
		}
		BEGIN {
			name = tolower(ENVIRON["NAME"])
			# Of three letters, two are in many words.
			nearest = most = length(name) < 4 ? 0 : int((length(name) + 1) / 4)
		}
		{
			far = distance(name, tolower($0), 1)
			if (far > nearest) next
			if (far < nearest) count = 0
			nearest = far
			names[++count] = $0
		}
		END {
			for (i = 1; i <= count; i++) {
				whole = distance(name, tolower(names[i]), 0)
				if (count <= 4 || whole <= most) printf "%d %s\n", whole, names[i]
			}
		}' | sort -n -k 1,1 -s | awk '
		NR == 1 { least = $1 }
		$1 <= least + 1 && NR <= 4 { sub(/^[0-9]+ /, ""); print }'
}

# did_you_mean NAME: a question that goes on with a message, or nothing. The names are in
# standard input.
did_you_mean() {
	near "$1" | awk '
		{ question = question (NR > 1 ? " or " : "; did you mean ") $0 }
		END { if (NR) printf "%s?", question }'
}

# wrong VARIABLE MESSAGE [NAME]: an error that says what it can be. What is wrong is said last: the
# names may fill the screen. NAME is what was meant for one, if that is not all of the value.
wrong() {
	local all likely='' name=${3:-${!1:-}}
	all=$(names "$1")
	printf '%s= can be\n' "$1"
	printf '%s\n' "$all" | sed 's/^/    /'
	[ -z "$name" ] || likely=$(printf '%s\n' "$all" | did_you_mean "$name")
	printf '%s%s\n' "$2" "$likely"
	exit 1
} >&2

# one_line VARIABLE: to grep, each line would be a name of its own.
one_line() {
	[[ ${!1:-} != *$'\n'* ]] || wrong "$1" "$1= has more than one line"
}

# exactly VARIABLE: must be one of the names.
exactly() {
	local with=
	[ "$1" != SCENARIO ] || with=" with KERNEL=$KERNEL"
	[ -n "${!1:-}" ] || wrong "$1" "$1= is missing"
	one_line "$1"
	names "$1" | grep -Fx -e "${!1}" > /dev/null || wrong "$1" "there is no $1=${!1}$with"
}

# part VARIABLE: may be a name, or a part of names.
part() {
	local pattern=
	one_line "$1"
	[ -z "${!1:-}" ] || names "$1" | grep -F -e "${!1}" > /dev/null || {
		[[ ${!1} != *[*?]* ]] || pattern=", which is no pattern"
		wrong "$1" "no name has $1=${!1} in it$pattern"
	}
}

# parts VARIABLE: may be several, with commas between them.
parts() {
	local all=${!1:-} one
	one_line "$1"
	while read -rd , one; do
		local "$1=$one"
		part "$1"
	done <<< "$all,"
}

# number VARIABLE LEAST DIGITS: may be a number of 0 or 1 at least, with so many digits at most.
number() {
	[[ -z ${!1:-} || ${!1} =~ ^0*[$2-9][0-9]*$ && ${!1} =~ ^0*[0-9]{1,$3}$ ]] || {
		echo "$1=${!1} is not a number of $2 or more, with $3 digits at most" >&2
		exit 1
	}
}

# slice: may be a machine of a campaign, and its seed.
slice() {
	local machine
	[ -n "${SLICE:-}" ] || return 0
	machine=${SLICE%:*}
	one_line SLICE
	if ! [[ $SLICE =~ :0*[0-9]{1,19}$ ]]; then
		wrong SLICE "SLICE=$SLICE is not MACHINE:SEED, as a campaign prints it" "$machine"
	fi
	names SLICE | grep -Fx -e "$machine" > /dev/null ||
		wrong SLICE "a campaign has no machine SLICE=$SLICE" "$machine"
}

# not_empty VARIABLE: an error if make was given it without a value: a script has a variable without
# one, perhaps, and would run all that there is.
not_empty() {
	case $1 in
	# Kbuild's, and DESTDIR, which is empty if nothing is packaged.
	DESTDIR | ARCH | C | CC | LLVM | LOCALVERSION | V | W) return ;;
	# A message about these has the names.
	KERNEL | SCENARIO | FUZZ) return ;;
	esac
	[[ ${!1:-} != *[![:space:]]* ]] || return 0
	echo "$1= is empty: give it a value, or leave it out" >&2
	exit 1
}

# author: an error unless mails can have it as it is. Git leaves out what the rules exclude, and
# then From: is not whom Signed-off-by: names.
author() {
	local author=${AUTHOR:-} said="AUTHOR='${AUTHOR:-}' is" name address
	if [ -z "$author" ]; then
		name=$(git config user.name 2> /dev/null || true)
		address=$(git config user.email 2> /dev/null || true)
		if [ -z "$name" ] || [ -z "$address" ]; then
			printf '%s\n' "whose are the patches? Give AUTHOR='NAME <ADDRESS>', or have git know it:" \
				'    git config user.name NAME; git config user.email ADDRESS' >&2
			exit 1
		fi
		author="$name <$address>" said="git knows '$name <$address>', which is"
	fi
	name=${author% <*}
	if ! [[ $author =~ ^[^[:cntrl:]\"\\\<\>]+\ \<[^[:cntrl:][:space:]\<\>@]+@[^[:cntrl:][:space:]\<\>@]+\>$ &&
		$name == *[![:punct:][:space:]]* && $name != *'  '* && $name != [\ ,:\;\']* && $name != *[\ ,:\;\'] ]]; then
		printf '%s\n' "$said not 'NAME <ADDRESS>' in one line, with single blanks and without \" \\ < >" \
			"in the name; AUTHOR='Jane Doe <jane@example.org>' would be" >&2
		exit 1
	fi
	printf '%s\n' "$author"
}

# takes TARGET
takes() {
	case $1 in
	run) echo RUNS ;;
	check | check-all) echo TEST SEED ;;
	check-qemu-faults) echo FAULT ;;
	bench) echo BENCH RUNS ;;
	campaign) echo HOURS PART SEED SLICE ;;
	mutants) echo HOURS MUTANT SEED ;;
	fuzz) echo FUZZ INPUT ;;
	scenario) echo KERNEL SCENARIO FAULT SEED ;;
	# Those without an underscore that kbuild takes.
	modules) echo KDIR ARCH C CC LLVM LOCALVERSION V W ;;
	modules_install) echo KDIR V ;;
	install) echo PREFIX DESTDIR ;;
	series | check-series) echo AUTHOR SERIES ;;
	esac
}

# takes_none VARIABLE TARGET...: an error that says what the targets take.
takes_none() {
	local target takes
	for target in "${@:2}"; do
		takes=$(takes "$target" | sed 's/\w\+/&=/g; s/ /, /g')
		echo "make $target takes no $1=; it takes ${takes:-no variable}"
	done
	exit 1
} >&2

# no_target: an error about the targets that make was called with.
no_target() {
	local goal known goals
	read -ra goals <<< "${GOALS:-}"
	known=$(sed -n 's/^\.PHONY: //p' "$vm/../../../Makefile" | tr ' ' '\n')
	for goal in "${goals[@]}"; do
		! grep -Fxq -e "$goal" <<< "$known" || continue
		echo "there is no target $goal$(did_you_mean "$goal" <<< "$known")"
	done
	echo "make without a target shows all"
	exit 2
} >&2

# judge TARGET
judge() {
	local variable given goal goals known TARGET=$1
	read -ra given <<< "${GIVEN:-}"
	read -ra goals <<< "${GOALS:-$1}"
	known=" $(for goal in "${goals[@]}"; do takes "$goal"; done | tr '\n' ' ')"
	for variable in "${given[@]}"; do
		# What else there may be is not for us, such as VFIO_MLX5_RUST_CACHE=.
		[[ $variable != *_* ]] || continue
		[[ $known == *" $variable "* ]] || takes_none "$variable" "${goals[@]}"
		not_empty "$variable"
	done
	for variable in $(takes "$1"); do
		case $variable in
		KERNEL | SCENARIO | FUZZ) exactly "$variable" ;;
		FAULT)
			# One is asked for: the machine may not go on after it.
			if [ "$1" != scenario ]; then
				part FAULT
			elif [ "$(names FAULT)" ]; then
				# With the fixes, all are tried in one machine.
				[ "$KERNEL,${FAULT:-}" = fixed, ] || exactly FAULT
			elif [ "${FAULT:-}" ]; then
				echo "SCENARIO=$SCENARIO takes no FAULT=" >&2
				exit 1
			fi
			;;
		TEST | BENCH | PART) part "$variable" ;;
		MUTANT) parts MUTANT ;;
		SLICE) slice ;;
		SEED) number SEED 0 19 ;;
		RUNS) number RUNS 1 9 ;;
		HOURS) number HOURS 1 4 ;;
		AUTHOR) author > /dev/null ;;
		SERIES) part SERIES ;;
		INPUT)
			[ -z "${INPUT:-}" ] || [ -f "$INPUT" ] || {
				echo "there is no file INPUT=$INPUT" >&2
				exit 1
			}
			;;
		esac
	done
}

# All scenarios, with sentences in lines of their own width.
list() {
	table | awk -F '\t' '
		function row(name, kernels, target, time, about) {
			printf "%-16s %-27s %-17s %-6s %s\n", name, kernels, target, time, about
		}
		BEGIN { row("Scenario", "Kernels", "make", "Time", "What it is about") }
		{
			gsub(/``/, "", $5)
			time = $4 < 100 ? $4 " s" : int(($4 + 59) / 60) " min"
			row($1, $2, $3, time, $5)
		}'
}

case ${1:-} in
list | table | author) "$1" ;;
takes | judge) "$1" "${2:?}" ;;
no-target) no_target ;;
TEST | KERNEL | SCENARIO | BENCH | PART | SLICE | MUTANT | FAULT | FUZZ | SERIES) names "$1" ;;
*)
	sed -n '/^#   /s/^# //p' "$0" >&2
	exit 1
	;;
esac

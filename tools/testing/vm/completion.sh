# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Completes the targets of our Makefile, their variables, and what those can be. To be
# sourced by bash, from ~/.bashrc for instance. Elsewhere, also in another checkout, whose
# scripts TAB must not run, make is completed as before.

# What bash-completion has for make is loaded first: it would take the place of ours.
_comp_load make 2> /dev/null || _completion_loader make 2> /dev/null || true

_vfio_rust_names=$(dirname "$(realpath "${BASH_SOURCE[0]}")")/names.sh

_vfio_rust_make() {
	local script=tools/testing/vm/names.sh word variable='' name usual i targets KERNEL='' TARGET=''
	if [ ! $script -ef "$_vfio_rust_names" ]; then
		for usual in _comp_cmd_make _make; do
			! declare -F $usual > /dev/null || { $usual "$@"; return; }
		done
		return
	fi
	# To bash, "=" is a word.
	word=${COMP_WORDS[COMP_CWORD]}
	if [ "$word" = = ]; then
		variable=${COMP_WORDS[COMP_CWORD - 1]} word=
	elif [ "$COMP_CWORD" -gt 2 ] && [ "${COMP_WORDS[COMP_CWORD - 1]}" = = ]; then
		variable=${COMP_WORDS[COMP_CWORD - 2]} word=${word//\\/}
	fi
	read -ra targets < <(sed -n 's/^\.PHONY: //p' Makefile)
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i - 1]}${COMP_WORDS[i]}${COMP_WORDS[i + 1]} in
		*KERNEL=) KERNEL=${COMP_WORDS[i + 2]:-} ;;
		*=*) ;;
		*) [[ " ${targets[*]} " != *" ${COMP_WORDS[i]} "* ]] || TARGET=${COMP_WORDS[i]} ;;
		esac
	done
	COMPREPLY=()
	if [ "$variable" ]; then
		# What is in small letters is no variable, but may be a command of the script.
		[[ $variable == [[:upper:]]* ]] || return 0
		while read -r name; do
			[[ $name != "$word"* ]] || COMPREPLY+=("$(printf %q "$name")")
		done < <(KERNEL=$KERNEL TARGET=$TARGET $script "$variable" 2> /dev/null)
		return
	fi
	for name in "${targets[@]}"; do
		[[ -n $TARGET || $name != "$word"* ]] || COMPREPLY+=("$name")
	done
	# What a variable is follows its "=" at once.
	[ -z "$TARGET" ] || compopt -o nospace 2> /dev/null || true
	for name in $($script takes "${TARGET:-none}"); do
		[[ $name != "$word"* ]] || COMPREPLY+=("$name=")
	done
}

complete -o bashdefault -o default -F _vfio_rust_make make

# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Whether there is enough disk and memory; to be sourced after common.sh.

# shellcheck source=tools/testing/vm/requirements.conf
. "$VM_DIR/requirements.conf"

# likely_targets COMMAND ARGUMENT...: what prepare.sh will be told to make for a command of
# vm-test, and nothing if that is only for a part.
likely_targets() {
	local command=${1//-/_} argument
	shift
	for argument; do
		case $argument in
		--kernel=*) echo "${argument#*=}" && return ;;
		--only=* | --fault=* | --slice=* | --draw=*) return ;;
		--all) command+=_all ;;
		esac
	done
	command=NEEDS_$command
	echo "${!command:-}"
}

# free_disk FOLDER: MiB on its disk.
free_disk() { df -Pm "$1" | awk 'NR == 2 { print $4 }'; }

# need_disk FOLDER MIB WHAT ADVICE: an error if there is less.
need_disk() {
	local free
	free=$(free_disk "$1")
	[ "$free" -ge "$2" ] || die "$(quoted "$1") has $free MiB free, and $3 needs $2 MiB more.
    $4
    tools/testing/vm/requirements.conf has how much everything takes"
}

# need_cache MIB: an error if the cache has less room for what is to be made.
need_cache() {
	need_disk "$CACHE" "$1" "what is to be made" \
		"XDG_CACHE_HOME=FOLDER puts the cache somewhere else; make distclean removes all of it,
    and what is in it takes hours to be made again."
}

# need_out: an error if the checkout has no room for logs and results.
need_out() {
	need_disk "$OUT" "$DISK_out" "what is reported" \
		"make clean removes the logs and results that are there; the cache stays. If it is not
    these that fill the disk, make room on it, or use a checkout on another one."
}

# memory ROOT: MiB of memory and swap that the machine or container has by its /proc and /sys.
memory() {
	local limit=max
	if [ -e "$1/sys/fs/cgroup/memory.max" ]; then
		read -r limit < "$1/sys/fs/cgroup/memory.max"
	fi
	awk -v limit="$limit" '
		/^(MemTotal|SwapTotal):/ { sum += $2 / 1024 }
		END { if (limit != "max" && limit / 1048576 < sum) sum = limit / 1048576; printf "%d\n", sum }
	' "$1/proc/meminfo"
}

# need_memory COMMAND ROOT: an error if there is less.
need_memory() {
	local needed=MEMORY_${1//-/_} has
	needed=${!needed:-$MEMORY}
	has=$(memory "$2")
	[ "$has" -ge "$needed" ] || die "this machine has $has MiB of memory and swap, and $needed" \
		"MiB are needed; tools/testing/vm/requirements.conf has that"
}

# need_processor MACHINE: an error if that is none that this runs on.
need_processor() {
	[ "$1" = x86_64 ] || die "this takes an x86-64 machine, and this one is $1;" \
		"'make modules' alone builds the driver elsewhere"
}

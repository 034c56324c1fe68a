#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Makes what the given targets need, with progress: prepare.sh TARGET...
#
#   stock    test machines with the stock kernel
#   intree   test machines with our files in the kernel tree
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"
as_root "$0" "$@"

# The step that runs: a process group of its own, which would outlive this shell.
running=
# end SIGNAL: ends the step, and then this shell as the signal does.
end() {
	trap - INT TERM HUP
	if [ -n "$running" ]; then
		kill -- "-$running" 2> /dev/null || true
		wait "$running" || true
	fi
	kill -s "$1" $$
}
trap 'end INT' INT
trap 'end TERM' TERM
trap 'end HUP' HUP

number=0
# step TITLE EXPECTATION COMMAND...
step() {
	local title=$1 expect=$2 begin=$SECONDS log status=0
	shift 2
	number=$((number + 1))
	log=$OUT/log/prepare-$number.log
	printf '[%d/%d] %-44s' "$number" "$steps" "$title"
	set -m
	"$@" > "$log" 2>&1 < /dev/null &
	running=$!
	set +m
	while kill -0 "$running" 2> /dev/null; do
		if [ -t 1 ]; then
			printf '\r[%d/%d] %-44s %4ds  (first time: %s)' \
				"$number" "$steps" "$title" $((SECONDS - begin)) "$expect"
		fi
		sleep 0.2
	done
	wait "$running" || status=$?
	running=
	if [ "$status" = 0 ]; then
		[ ! -t 1 ] || printf '\r\033[K[%d/%d] %-44s' "$number" "$steps" "$title"
		printf ' %4ds\n' $((SECONDS - begin))
		return
	fi
	printf ' FAILED\n\n'
	tail -n 25 "$log" | sed 's/^/    /'
	printf '\nThe whole log is %s\nOnce that is mended, the same command goes on from there.\n' "$log" >&2
	exit 1
}

enter=$VM_DIR/enter.sh
steps=7
[[ " $* " != *" intree "* ]] || steps=$((steps + 3))
step "a Debian with the toolchain and QEMU" "2 min" locked sysroot "$VM_DIR/sysroot.sh"
step "kernel and QEMU sources" "1 min" locked sources "$enter" "$VM_DIR/sources.sh"
# shellcheck disable=SC2016 # expanded by the inner shell
step "QEMU's device headers" "15 s" locked qemu-headers "$enter" bash -c '
	[ -e "$1" ] || "$2" "$3" "$1"' - "$(qemu_headers_dir)" \
	"$TOP/tools/testing/mlx5-emu/shim/prepare-headers.sh" "$(sources_dir)/qemu"
step "Rust crates of the stock kernel, the C driver" "3 min" locked stock "$enter" "$VM_DIR/stock.sh"
step "the emulated HCA" "30 s" locked build "$enter" "$VM_DIR/build.sh" emu
step "tools, and the machine's init" "1 min" locked build "$enter" bash -c \
	"'$VM_DIR/build.sh' guest && '$VM_DIR/build.sh' runner"
step "our module for the stock kernel" "30 s" locked build "$enter" "$VM_DIR/build.sh" module
if [[ " $* " == *" intree "* ]]; then
	step "Linux with our files in its tree" "10 min" locked intree "$enter" "$VM_DIR/intree.sh"
	step "the kernel's VFIO selftests" "30 s" locked selftests "$enter" "$VM_DIR/selftests.sh"
	step "the QEMU that uses VFs" "10 s" locked consumer "$enter" "$VM_DIR/consumer.sh"
fi

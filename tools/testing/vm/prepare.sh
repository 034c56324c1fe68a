#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Makes what is needed, with progress:
#
#   prepare.sh for COMMAND ARGUMENT...   what vm-test needs for that, or an error
#                                        if it names something that does not exist
#   prepare.sh TARGET...
#
#   sources  the sources of kernels and QEMU
#   stock    test machines with the stock kernel
#   intree   test machines with our files in the kernel tree
#   kunit    our modules with their KUnit tests, for the in-tree kernel
#   bare     the same without checkers: machines that measure
#   builtin  the same with our driver in the image
#   debug    test machines with our files in the kernel tree, and all checkers
#   fixed    test machines as intree's, with the fixes for the C driver
#   kunit-debug  our modules with their KUnit tests, for that kernel
#   consumer the QEMU that uses VFs in a test machine
#   fuzz     what is fuzzed
#   rdma     a test of rdma-core's driver
#   cargo-mutants  what applies faults to what compiles on the host
#   tools    out/vfio-mig
#   deb      packages of the checkout, in out/deb
#   packages the same, and a Debian to install them in
#   operator the same, and a disk of hosts in which they are installed
#   mlx5-emu out/mlx5-emu.so
#   series   what cuts the tree into series of patches
#   series-boot  what boots the kernels that series leave
set -euo pipefail
TARGETS='sources stock intree kunit bare builtin debug kunit-debug fixed consumer fuzz rdma cargo-mutants tools deb packages operator mlx5-emu series series-boot'
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=tools/testing/vm/requirements.sh
. "$VM_DIR/requirements.sh"
[ $# != 0 ] || die "what is to be prepared? 'for COMMAND', or some of: $TARGETS"
[ "$1" = for ] || for target; do
	[[ " $TARGETS " == *" $target "* ]] ||
		die "nothing is prepared for '$target', but for: $TARGETS"
done
need_processor "$(uname -m)"
need_memory "$([ "$1" != for ] || echo "${2:?}")" ""

# The step that runs: a process group of its own, which would outlive this shell.
running=
# end SIGNAL: ends the step, and then this shell as the signal does.
end() {
	trap - INT TERM HUP
	if [ -n "$running" ]; then
		kill -- "-$running" 2> /dev/null || true
		wait "$running" || true
		printf '\nThe same command goes on from here.\n' >&2
	fi
	kill -s "$1" $$
}
number=0
# How many there are, when that is known.
total=
# Whether steps are only counted, with the disk that those take that are not made yet, and which of
# these take long.
counting=
disk=0
long=
# step STAGE TITLE EXPECTATION COMMAND...
step() {
	local stage=$1 title=$2 expect=$3 begin=$SECONDS log status=0 line waits=
	shift 3
	if [ -n "$counting" ]; then
		total=$((total + 1))
		count_new "$stage" "$title" "$expect"
		return
	fi
	number=$((number + 1))
	log=$OUT/log/prepare-$number.log
	# It is read before the step has begun to write.
	: > "$log"
	line=$(printf '%-7s %-44s' "[$number${total:+/$total}]" "$title")
	printf '%s' "$line"
	# Between steps, a signal ends this shell by itself.
	trap 'end INT' INT
	trap 'end TERM' TERM
	trap 'end HUP' HUP
	set -m
	"$@" > "$log" 2>&1 < /dev/null &
	running=$!
	set +m
	while kill -0 "$running" 2> /dev/null; do
		! make_has_ended || end TERM
		# The first line says whether it has to wait.
		if [ -z "$waits" ] && read -r waits < "$log" && [[ $waits == "$WAITING"* ]]; then
			printf '\n%-7s %s\n%s' '' "$waits" "$line"
		fi
		if [ -t 1 ]; then
			printf '\r%s %4ds  (first time: %s)' "$line" $((SECONDS - begin)) "$expect"
		fi
		sleep 0.2
	done
	wait "$running" || status=$?
	running=
	trap - INT TERM HUP
	if [ "$status" = 0 ]; then
		[ ! -t 1 ] || printf '\r\033[K%s' "$line"
		printf ' %4ds\n' $((SECONDS - begin))
		return
	fi
	printf ' FAILED\n\n'
	tail -n 25 "$log" | sed 's/^/    /'
	printf '\nThe whole log is %s\nOnce that is mended, the same command goes on from there.\n' \
		"$(quoted "$log")" >&2
	exit 1
}

enter=$VM_DIR/enter.sh
# build TITLE EXPECTATION WHAT
build() { step cargo "$1" "$2" locked build "$enter" "$VM_DIR/build.sh" "$3"; }

# needed TARGET...: whether one of them is to be made.
needed() {
	local target
	for target; do
		[[ $targets != *" $target "* ]] || return 0
	done
	return 1
}

make_targets() {
	if needed sources stock intree kunit bare builtin debug kunit-debug fixed rdma series; then
		step sources "kernel and QEMU sources" "1 min" locked sources "$enter" "$VM_DIR/sources.sh"
	fi
	if needed stock intree kunit bare builtin debug kunit-debug fixed mlx5-emu series-boot; then
		step qemu_headers "QEMU's device headers" "30 s" locked qemu-headers "$enter" "$VM_DIR/qemu-headers.sh"
	fi
	if needed stock intree kunit bare builtin debug kunit-debug fixed series-boot; then
		build "the emulated HCA" "30 s" emu
		build "vfio-mig, and the program in test machines" "1 min" guest
		step net_tools "ethtool, ip and tc for test machines" "10 s" locked net-tools "$enter" "$VM_DIR/net-tools.sh"
	fi
	if needed stock; then
		step stock "Rust crates of the stock kernel, C driver" "3 min" \
			locked stock "$enter" "$VM_DIR/stock.sh"
		step bitmaps "the stock kernel's VFIO with dirty bitmaps" "20 s" \
			locked bitmaps "$enter" "$VM_DIR/bitmaps.sh"
		build "our module for the stock kernel" "30 s" module
	fi
	if needed intree kunit bare builtin debug kunit-debug fixed series; then
		build "what cuts the tree into series of patches" "30 s" series
	fi
	if needed intree kunit bare builtin debug kunit-debug fixed; then
		step intree "Linux with our files in its tree" "10 min" locked intree "$enter" "$VM_DIR/intree.sh"
	fi
	if needed kunit; then
		build "our modules with their KUnit tests" "1 min" kunit
	fi
	if needed bare; then
		step bare "Linux without checkers" "8 min" locked intree "$enter" "$VM_DIR/bare.sh"
	fi
	if needed builtin; then
		step builtin "Linux with our driver in its image" "15 min" locked intree "$enter" "$VM_DIR/builtin.sh"
	fi
	if needed debug kunit-debug; then
		step debug "Linux with all checkers" "25 min" locked intree "$enter" "$VM_DIR/debug.sh"
	fi
	if needed kunit-debug; then
		build "KUnit tests, for Linux with all checkers" "1 min" kunit-debug
	fi
	if needed fixed; then
		step fixed "Linux with fixes for the C driver" "1 min" locked intree "$enter" "$VM_DIR/fixed.sh"
	fi
	if needed intree debug series-boot; then
		step selftests "the kernel's VFIO selftests" "30 s" locked selftests "$enter" "$VM_DIR/selftests.sh"
	fi
	if needed intree consumer; then
		step consumer "the QEMU that uses VFs" "10 s" locked consumer "$enter" "$VM_DIR/consumer.sh"
	fi
	if needed rdma; then
		step rdma "a test of rdma-core's driver" "10 s" locked rdma "$enter" "$VM_DIR/rdma.sh"
	fi
	if needed cargo-mutants; then
		step cargo_mutants "cargo-mutants" "3 min" locked cargo-mutants "$enter" "$VM_DIR/cargo-mutants.sh"
	fi
	if needed fuzz; then
		build "the programs that fuzz" "1 min" fuzz
	fi
	if needed tools deb packages operator; then
		build "vfio-mig" "1 min" tools
	fi
	if needed deb packages operator; then
		step debian "a small Debian for packages" "1 min" locked debian "$TOP/tools/packaging/debian-root.sh"
		step deb "packages of the driver and vfio-mig" "1 min" locked deb "$TOP/tools/packaging/deb.sh"
	fi
	if needed operator; then
		step operator "a Debian with libvirt, QEMU and ssh" "3 min" locked operator "$VM_DIR/operator/root.sh"
		step operator "a disk of that, with the packages, by DKMS" "8 min" locked operator "$VM_DIR/operator/disk.sh"
	fi
	if needed series; then
		step series_tools "git and sparse" "10 s" locked series-tools "$enter" "$VM_DIR/series-tools.sh"
	fi
	if needed mlx5-emu; then
		build "the emulated HCA, for a person" "1 min" nic
	fi
}
# is_made STAGE: whether it takes no more room. What cargo builds is counted once.
is_made() {
	case $1 in
	sysroot) [ "$where" = host ] || [ -e "$(sysroot_dir)" ] ;;
	cargo) [[ -e $CACHE/build/vm-test || $counted == *" cargo "* ]] ;;
	# The source is a link to that which is there.
	qemu_headers) [[ -e $(qemu_source_dir) || -e $(sources_dir) || $counted == *" sources "* ]] ;;
	intree | bare | builtin | debug) [ -e "$("$1_dir")/objects/arch/x86/boot/bzImage" ] ;;
	*) [ -e "$("$1_dir")" ] ;;
	esac
}

# count_new STAGE TITLE EXPECTATION: adds what it takes, if it is not there yet.
count_new() {
	local mib=DISK_$1
	! is_made "$1" || return 0
	counted+="$1 " disk=$((disk + ${!mib}))
	if [[ $3 == *' min' && ${3% min} -gt 2 ]]; then
		long+="    $2: $3"$'\n'
	fi
}

# count: how many steps there are, and whether there is room for what they make.
count() {
	total=$number disk=0 long='' counted=' ' counting=yes
	[ "$number" != 0 ] || first_steps
	make_targets
	counting=
	need_cache "$disk"
	need_out
}

first_steps() {
	step sysroot "a Debian with the toolchain and QEMU" "2 min" locked sysroot "$VM_DIR/sysroot.sh"
	if [ -n "$runner" ] || needed series-boot; then
		build "vm-test, which starts test machines" "30 s" runner
	fi
}

where=$("$enter" --where)
# What is needed is only known for certain when there is a runner to be asked.
arguments=("$@") runner='' targets=" $* "
if [ "$1" = for ]; then
	shift
	runner=yes targets=" $(likely_targets "$@") "
fi
count
as_root "$0" "${arguments[@]}"
give_back
trap give_back EXIT
[ -w "$OUT/log" ] || die_of_out
total=
first_steps
if [ -n "$runner" ]; then
	targets=" $("$VM_DIR/vm-test.sh" --needs "$@") "
fi
count
[ -z "$long" ] || printf 'This is made first, once:\n%s' "$long"
make_targets

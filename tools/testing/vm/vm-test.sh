#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Runs vm-test in the sysroot: vm-test.sh ARGUMENT..., or lists scenarios: vm-test.sh --list
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"
[ $# != 0 ] || die "vm-test.sh ARGUMENT...; 'vm-test.sh --help' has them"
[ "$1" != --list ] || exec "$VM_DIR/names.sh" list
as_root "$0" "$@"

# One at a time: machines write to the same folders. The lock is that of vm-test and of
# all that it starts, and so is free when the last of them has ended.
# A question about what is needed does not wait.
if [ "$1" != --needs ]; then
	alone vm-test vm-test "$@"
	give_back
fi
# What is measured is told apart by it. Without git, or a repository, nobody knows.
commit=$(git -C "$TOP" describe --always --abbrev=12 --dirty 2> /dev/null || echo unknown)
# What a campaign has found out is true of this code, and which mutants survive of these tests.
mapfile -t tests < <(find "$TOP/tools" -type f | LC_ALL=C sort)
mapfile -t code < <(find "$TOP"/{drivers,include,samples} -type f | LC_ALL=C sort)
# What a series leaves takes the place of the in-tree kernel: series-boot.sh has built it.
intree=$(intree_dir)/objects
[ -z "${VM_TIP:-}" ] || intree=$(series_dir)/boot
# In place of this shell: a signal to it would not reach vm-test.
exec "$VM_DIR/enter.sh" env "VM_TOP=$TOP" "VM_PLAIN_TOP=$PLAIN_TOP" \
	"VM_COMMIT=$commit" "VM_CODE=$(key "${code[@]}")" \
	"VM_TESTS=$(key "${tests[@]}")" "VM_BUILD=$CACHE/build" \
	"VM_STOCK=$(sources_dir)/stock" "VM_STOCK_RELEASE=$STOCK_RELEASE" \
	"VM_STOCK_C_DRIVER=$(stock_dir)/mlx5" "VM_BITMAPS=$(bitmaps_dir)" \
	"VM_INTREE=$intree" "VM_LAID=$(intree_dir)/tree" "VM_BARE=$(bare_dir)/objects" \
	"VM_BUILTIN=$(builtin_dir)/objects" "VM_DEBUG=$(debug_dir)/objects" \
	"VM_FIXED=$(fixed_dir)" \
	"VM_SELFTESTS=$(selftests_dir)" "VM_CONSUMER=$(consumer_dir)" \
	"VM_RDMA=$(rdma_dir)" "VM_NET_TOOLS=$(net_tools_dir)" \
	"VM_FUZZ=$(fuzz_dir)" "VM_CARGO_MUTANTS=$(cargo_mutants_dir)" \
	${VM_MAKE:+"VM_MAKE=$VM_MAKE"} ${VM_TIP:+"VM_TIP=$VM_TIP"} \
	"$CACHE/build/vm-test" "$@"

#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Builds our modules of a copy of the checkout, for a kernel: mutant.sh KERNEL COPY FOLDER. Runs
# in the sysroot.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"
[ $# = 3 ] || die "mutant.sh KERNEL COPY FOLDER"

arguments=("M=${2/#"$TOP"/$PLAIN_TOP}" "MO=${3/#"$TOP"/$PLAIN_TOP}" "-j$(nproc)")
case $1 in
stock)
	objects=$(stock_dir)/objects
	arguments+=("LOCALVERSION=$STOCK_LOCALVERSION" CONFIG_SAMPLE_VFIO_RUST_SKELETONS=m)
	;;
intree) objects=$(intree_dir)/objects ;;
debug)
	objects=$(debug_dir)/objects
	arguments+=(LLVM=1)
	;;
*) die "mutant.sh builds for stock, intree and debug" ;;
esac
# What the kernel's own build has KCOV record, if it has that (intree.sh).
export KCOV_INSTRUMENT=y
make -C "$objects" "${arguments[@]}" modules

#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Builds what the kernel's tree has after a patch of a series, and after those before it:
#
#   series.sh SERIES[:NUMBER[-NUMBER]]...
#
# For each architecture, with what the kernel's own checks are: W=1, CLIPPY=1, and C=1 if the
# suite's sparse is new enough for the kernel; for this architecture, with all KUnit tests, to
# which the examples of the kernel crate belong. Its documentation is built after the last patch
# that adds to it. Of the series selftests, the tests are built, for this architecture. A warning
# about what the series have fails. Runs in the sysroot.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=tools/testing/vm/warnings.sh
. "$VM_DIR/warnings.sh"
# shellcheck source=tools/testing/vm/kernel-config.sh
. "$VM_DIR/kernel-config.sh"
# shellcheck source=tools/testing/vm/series-source.sh
. "$VM_DIR/series-source.sh"

laid=$dir/laid

# Kbuild says so, and goes on, if sparse is too old.
PATH=$PATH:$(series_tools_dir)/usr/bin
# build ARCHITECTURE ARGUMENT...
build() { nice make -C "$src" "O=$dir/$1" "ARCH=$1" LLVM=1 CLIPPY=1 W=1 C=1 "-j$(nproc)" "${@:2}"; }

# wanted ARCHITECTURE: what is on top of tinyconfig: what the series may need, and what they have.
wanted() {
	cat "$VM_DIR/architectures/config"
	[ "$1" != x86_64 ] || printf '%s\n' CONFIG_64BIT=y CONFIG_KUNIT=y CONFIG_KUNIT_ALL_TESTS=y
	echo CONFIG_MLX5_VFIO_PCI=m
	# An option that another patch adds is none yet.
	if [ -e "$src/drivers/vfio/rust/Kconfig" ]; then
		printf '%s\n' CONFIG_COMPILE_TEST=y CONFIG_VFIO_RUST=m
	fi
	if [ -e "$src/samples/vfio-rust/Kconfig" ]; then
		echo CONFIG_SAMPLE_VFIO_RUST=m
	fi
	if [ -e "$src/drivers/vfio/pci/mlx5_rust/Kconfig" ]; then
		echo CONFIG_MLX5_VFIO_PCI_RUST=m
	fi
}

# modules: what is built beside the crates.
modules() {
	local folder
	for folder in drivers/vfio samples/vfio-rust; do
		[ ! -e "$src/$folder/Kconfig" ] || echo "$folder/"
	done
}

# selftests: with the headers of the source, where their Makefile looks for them.
selftests() {
	local objects=$dir/selftests
	rm -rf "$objects"
	make -C "$src" "O=$objects/headers" "INSTALL_HDR_PATH=$objects/usr" headers_install &&
		make -C "$src/tools/testing/selftests" TARGETS=vfio FORCE_TARGETS=1 "O=$objects" "-j$(nproc)"
}

# is_last SERIES:NUMBER
is_last() { [ "$(patch_series list | grep "^${1%:*}:" | tail -n 1 | cut -f 1)" = "$1" ]; }

# compile SERIES:NUMBER ARCHITECTURE
compile() {
	local folders
	if [[ $1 == selftests:* ]]; then
		selftests
		return
	fi
	mapfile -t folders < <(modules)
	wanted "$2" | configure "$dir/$2" tools/testing/vm/architectures/config build "$2" &&
		build "$2" prepare modules_prepare &&
		# An object that is up to date would not warn.
		rm -rf "${folders[@]/#/$dir/$2/}" &&
		build "$2" "${folders[@]}" &&
		{ [ "$2" != x86_64 ] || [[ $1 != rust:* ]] || ! is_last "$1" || build "$2" rustdoc; }
}

# check SERIES:NUMBER ARCHITECTURE
check() {
	local log=$OUT/log/series-${1/:/-}-$2.log warnings words
	words=$(sed 's|^\./||' "$laid" | grep -v '/Makefile$\|Kconfig$' | paste -sd '|')
	if ! compile "$@" > "$log" 2>&1; then
		echo "not ok $1 $2: see $(quoted "$log")"
		return 1
	fi
	warnings=$(warnings_in "$words" < "$log")
	if [ -n "$warnings" ]; then
		echo "not ok $1 $2: warnings"$'\n'"$warnings"
		return 1
	fi
	echo "ok $1 $2"
}

results=$SERIES_WORK/builds
mkdir -p "$SERIES_WORK"
# result SERIES:NUMBER ARCHITECTURE RESULT: the last one counts.
result() {
	[ ! -e "$results" ] || sed -i "/^$1\t$2\t/d" "$results"
	printf '%s\t%s\t%s\n' "$@" >> "$results"
}

bad=
for wanted in "$@"; do
	series=${wanted%%:*}
	count=$(patch_series list | grep -c "^$series:") || die "there is no series $series"
	first=1 last=$count
	case $wanted in
	*:*-*) first=${wanted#*:} last=${first#*-} first=${first%-*} ;;
	*:*) first=${wanted#*:} last=$first ;;
	esac
	for ((number = first; number <= last; number++)); do
		end_with_make
		lay "$dir" "$series:$number"
		architectures=${ARCHITECTURES:-x86_64 arm64}
		[ "$series" != selftests ] || architectures=x86_64
		for architecture in $architectures; do
			if check "$series:$number" "$architecture"; then
				result "$series:$number" "$architecture" ok
			else
				result "$series:$number" "$architecture" failed
				bad=yes
			fi
		done
	done
done
[ -z "$bad" ] || exit 1

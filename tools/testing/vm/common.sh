# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What the scripts beside it share; to be sourced.
#
# Everything that takes long is made once and kept in the user's cache, in
# folders named after a digest of what determines them. A folder has its name
# only when it is complete: it is made under another name, and then renamed.

set -euo pipefail

# Where a user may not have them: chroot, debootstrap.
PATH=$PATH:/usr/sbin:/sbin

VM_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
TOP=$(cd "$VM_DIR/../../.." && pwd)
OUT=$TOP/out
# What is found of the series for the kernel, until it is reported.
# shellcheck disable=SC2034 # for those that source this
SERIES_WORK=$OUT/series/.work

die() {
	echo "error: $*" >&2
	exit 1
}

# quoted PATH: as a shell takes it, for a message to copy from.
quoted() { if [[ $1 == *[!A-Za-z0-9_./+:@%,=-]* ]]; then echo "${1@Q}"; else echo "$1"; fi; }

# die_of_out: says what to do if logs and results cannot be written.
die_of_out() {
	local out
	out=$(quoted "$OUT")
	if [ ! -d "$OUT" ] && { [ -e "$OUT" ] || [ -L "$OUT" ]; }; then
		die "logs and results go to the folder $out, which is something else now; move it away:
    mv $out $(quoted "$OUT.old")"
	elif [ "$(id -u)" != 0 ] && [ -e "$OUT" ] && [ ! -O "$OUT" ]; then
		die "logs and results go to $out, which is another user's; give it back to who owns the checkout:
    sudo chown -R $(id -un): $out"
	fi
	die "logs and results go to $out, which cannot be written to: if its file system is read-only,
    copy the checkout to another one; if that is full, make room there"
}

# A relative XDG_CACHE_HOME is to be ignored (XDG Base Directory Specification).
case ${VFIO_MLX5_RUST_CACHE:-},${XDG_CACHE_HOME:-},${HOME:-} in
/*) CACHE=$VFIO_MLX5_RUST_CACHE ;;
,/*) CACHE=$XDG_CACHE_HOME/vfio-mlx5-rust ;;
,*,/*) CACHE=$HOME/.cache/vfio-mlx5-rust ;;
,*) die "HOME is no folder, in which the cache would be; XDG_CACHE_HOME can be another one" ;;
*) die "VFIO_MLX5_RUST_CACHE=$VFIO_MLX5_RUST_CACHE does not begin with a slash" ;;
esac
# plain PATH: whether make takes all of its characters, LD_PRELOAD, and options of QEMU.
plain() { [[ $1 != *[][:space:]:,\;=\"\'\`\$\\\&\|\<\>\(\)\{\}*?!#%~]* ]]; }

plain "$CACHE" || die "make does not take all characters of $CACHE, where the cache would be;" \
	"XDG_CACHE_HOME can be another folder than ~/.cache"
# The checkout, for make: if its path is not plain, the sysroot has it here, too.
PLAIN_TOP=$TOP
# shellcheck disable=SC2034 # for those that source this
plain "$TOP" || PLAIN_TOP=/checkout
# shellcheck source=tools/testing/vm/versions.conf
. "$VM_DIR/versions.conf"
# shellcheck source=tools/testing/vm/root.sh
. "$VM_DIR/root.sh"

mkdir -p "$CACHE/locks" ||
	die "the cache cannot be there; XDG_CACHE_HOME can be another folder than ~/.cache"
# Backups leave out a folder with this file (bford.info/cachedir), and distclean.sh removes what
# is in it. A folder that had other files before is not all ours.
TAG=$CACHE/CACHEDIR.TAG
if [ ! -e "$TAG" ] && [ "$(ls -A "$CACHE")" = locks ]; then
	printf '%s\n' 'Signature: 8a477f597d28d172789f06886806bc55' \
		'# The cache of vfio-mlx5-rust.' > "$TAG"
fi
mkdir -p "$OUT/log" || die_of_out

# key TEXT-OR-FILE...: a digest of the contents of files, and of other words.
key() {
	local item
	for item in "$@"; do
		if [ -f "$item" ]; then
			cat "$item"
		else
			printf '%s\n' "$item"
		fi
	done | sha256sum | cut -c1-16
}

# What is said of a lock that another process has.
WAITING='waiting for another run to end'

# locked NAME COMMAND...: one process at a time. Says which one it waits for.
locked() {
	local lock=$CACHE/locks/$1
	shift
	# What the other one has written there must stay.
	(
		take "$lock" "${*##*/}"
		"$@"
	) 9<> "$lock"
}

# take LOCK WHAT: takes the lock that is open as descriptor 9, for WHAT. Says who has it, if it
# must wait.
take() {
	local holder
	if ! flock --nonblock 9; then
		holder=$(head -n 1 "$1")
		echo "$WAITING: process ${holder:-unknown}"
		until flock --timeout 1 9; do
			end_with_make
		done
	fi
	echo "$$, $2" > "$1"
}

# The make that a script is for. What it has started ends with it, even if a signal ended it that
# nothing can tell of.
if [ -z "${VM_MAKE:-}" ] && [ -n "${MAKELEVEL:-}" ]; then
	export VM_MAKE=$PPID
fi

# make_has_ended: whether there was a make, and is no more.
make_has_ended() {
	local state
	[ -n "${VM_MAKE:-}" ] || return 1
	# Nobody may have waited for it yet.
	! { read -r _ _ state _ < "/proc/$VM_MAKE/stat"; } 2> /dev/null || [ "$state" = Z ]
}

# end_with_make: between steps that no signal to make would end.
end_with_make() { ! make_has_ended || exit 1; }

# alone NAME WHAT...: the only process that does WHAT from now on, with all that it starts. Waits
# for another one, and says which.
alone() {
	local lock=$CACHE/locks/$1
	shift
	# What the other one has written there must stay.
	exec 9<> "$lock"
	take "$lock" "$*" >&2
}

# What a build for a stock kernel with dirty bitmaps is told: bitmaps.sh has made the rest.
BITMAPS_FLAG=-DCONFIG_IOMMUFD_DRIVER=1

# our_folders: those of modules, as Kbuild has them.
our_folders() { sed -nE 's|^obj-.* \+= (.*)/$|\1|p' "$TOP/Kbuild"; }

# Where the stages put their results. Names are functions, so that a stage and
# its users cannot disagree.
sysroot_dir() { echo "$CACHE/sysroot-$(key "$SUITE" "$SYSROOT_PACKAGES" "$VM_DIR/sysroot.sh")"; }
deb_dir() { echo "$CACHE/deb-$(key "$(debian_dir)" "$DEB_PACKAGES")"; }
debian_dir() { echo "$CACHE/debian-$(key "$SUITE" "$BACKPORTS" "$TOP/tools/packaging/debian-root.sh")"; }
operator_dir() { echo "$CACHE/operator-$(key "$(debian_dir)" "$STOCK_RELEASE" "$STOCK_SOURCE" "$OPERATOR_PACKAGES" "$OPERATOR_BACKPORTS" "$VM_DIR/operator/root.sh")"; }
sources_dir() { echo "$CACHE/sources-$(key "$STOCK_PACKAGES" "$STOCK_SOURCE" "$INTREE_SOURCE" "$QEMU_SOURCE" "$VM_DIR/sources.sh" "$(sysroot_dir)")"; }
qemu_source_dir() { echo "$CACHE/qemu-source-$(key "$QEMU_SOURCE" "$VM_DIR/qemu-headers.sh" "$(sysroot_dir)")"; }
qemu_headers_dir() { echo "$CACHE/qemu-headers-$(key "$(qemu_source_dir)" "$TOP/tools/testing/mlx5-emu/shim/prepare-headers.sh")"; }
stock_dir() { echo "$CACHE/stock-$(key "$(sources_dir)" "$VM_DIR/stock.sh")"; }
bitmaps_dir() { echo "$CACHE/bitmaps-$(key "$(stock_dir)" "$BITMAPS_FLAG" "$VM_DIR/bitmaps.sh")"; }
intree_dir() { echo "$CACHE/intree-$(key "$(sources_dir)" "$VM_DIR/intree/config" "$VM_DIR"/{intree,lay}.sh)"; }
bare_dir() { echo "$CACHE/bare-$(key "$(intree_dir)" "$VM_DIR/intree/bare" "$VM_DIR/bare.sh")"; }
architectures_dir() { echo "$CACHE/architectures-$(key "$(intree_dir)" "$VM_DIR/architectures/config")"; }
series_tools_dir() { echo "$CACHE/series-tools-$(key "$(sysroot_dir)" "$SERIES_PACKAGES" "$VM_DIR"/{packages,series-tools}.sh)"; }
series_dir() { echo "$CACHE/series-$(key "$(sources_dir)" "$VM_DIR/architectures/config")"; }
debug_dir() { echo "$CACHE/debug-$(key "$(intree_dir)" "$VM_DIR/intree/debug" "$VM_DIR/debug.sh")"; }
builtin_dir() { echo "$CACHE/builtin-$(key "$(intree_dir)" "$VM_DIR"/intree/{builtin,versions} "$VM_DIR/builtin.sh")"; }
fixed_dir() { echo "$CACHE/fixed-$(key "$(intree_dir)" "$TOP"/tools/series/fixes/* "$VM_DIR/fixed.sh")"; }
versions_dir() { echo "$CACHE/versions-$(key "$(intree_dir)" "$VM_DIR/architectures/config" "$VM_DIR/intree/versions")"; }
consumer_dir() { echo "$CACHE/consumer-$(key "$(sysroot_dir)" "$CONSUMER_VERSION" "$CONSUMER_PACKAGES" "$VM_DIR"/{packages,consumer}.sh)"; }
net_tools_dir() { echo "$CACHE/net-tools-$(key "$(sysroot_dir)" "$NET_TOOLS_PACKAGES" "$VM_DIR"/{packages,net-tools}.sh)"; }
sphinx_dir() { echo "$CACHE/sphinx-$(key "$(sysroot_dir)" "$INTREE_SOURCE" "$SPHINX_VERSIONS" "$VM_DIR/sphinx.sh")"; }
libvirt_dir() { echo "$CACHE/libvirt-$(key "$(sysroot_dir)" "$LIBVIRT_PACKAGES" "$VM_DIR"/{packages,libvirt}.sh)"; }
cargo_mutants_dir() { echo "$CACHE/cargo-mutants-$(key "$(sysroot_dir)" "$CARGO_MUTANTS_VERSION" "$VM_DIR/cargo-mutants.sh")"; }
selftests_dir() { echo "$CACHE/selftests-$(key "$(sources_dir)" "$TOP"/tools/series/selftests/* "$TOP"/tools/testing/selftests/vfio/{*.c,config,lib/*.c,lib/include/libvfio/*.h} "$VM_DIR/selftests.sh")"; }
rdma_dir() { echo "$CACHE/rdma-$(key "$(sources_dir)" "$RDMA_PACKAGES" "$TOP"/tools/testing/selftests/rdma-core/* "$VM_DIR"/{packages,rdma}.sh)"; }

# Inputs that fuzzing has kept, named after what says what their bytes mean. No stage makes
# it: each run adds to it.
fuzz_dir() { echo "$CACHE/fuzz-$(key "$TOP"/tools/testing/mlx5-rust-logic/src/fuzz{.rs,/*.rs} "$TOP"/tools/testing/fuzz/src/{commands,frames,images,machine,queues,tables}.rs)"; }

export CARGO_HOME=$CACHE/cargo
export CARGO_TARGET_DIR=$CACHE/target

#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Runs a command in the sysroot: enter.sh COMMAND ARGUMENT...
#
# Checkout and cache are where they are outside. enter.sh --where says whether
# that is the host itself, or a sysroot.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"
[ $# != 0 ] || die "enter.sh COMMAND ARGUMENT..."

host_is_suitable() {
	# shellcheck source=/dev/null
	[ "$(. /etc/os-release && echo "${VERSION_CODENAME:-}")" = "$SUITE" ] || return 1
	apt-get source -qq --print-uris "$QEMU_SOURCE" > /dev/null 2>&1 || return 1
	# shellcheck disable=SC2086 # a list of words
	apt-cache show $STOCK_PACKAGES "$STOCK_SOURCE" "$INTREE_SOURCE" > /dev/null 2>&1 || return 1
	# shellcheck disable=SC2086 # a list of words
	dpkg-query -W -f '${Status}\n' $SYSROOT_PACKAGES 2> /dev/null |
		awk '!/ok installed/ { bad = 1 } END { exit bad || NR == 0 }'
}

if host_is_suitable; then
	[ "$1" != --where ] || { echo host; exit 0; }
	exec "$@"
fi
[ "$1" != --where ] || { echo sysroot; exit 0; }

root=$(sysroot_dir)
as_root "$0" "$@"
# Mounts are in a namespace of their own, so none stays behind.
# shellcheck disable=SC2016 # expanded by the inner shell
exec unshare --mount --propagation private bash -c '
	set -e
	root=$1 top=$2 cache=$3
	shift 3
	# First: checkout or cache may be in it.
	mount -t tmpfs tmpfs "$root/tmp"
	mkdir -p "$root$top" "$root$cache"
	mount --bind "$top" "$root$top"
	mount --bind "$cache" "$root$cache"
	mount --rbind /dev "$root/dev"
	mount -t proc proc "$root/proc"
	for file in /etc/resolv.conf /etc/ssl/certs/ca-certificates.crt; do
		if [ -e "$file" ]; then
			touch "$root$file"
			mount --bind "$file" "$root$file"
		fi
	done
	dir=$PWD
	case $dir in "$top"* | "$cache"*) ;; *) dir=$top ;; esac
	exec chroot "$root" env -i \
		PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 TERM="${TERM:-dumb}" \
		VFIO_MLX5_RUST_CACHE="$cache" CARGO_HOME="$CARGO_HOME" \
		CARGO_TARGET_DIR="$CARGO_TARGET_DIR" \
		bash -c '\''cd "$1" && shift && exec "$@"'\'' - "$dir" "$@"
' - "$root" "$TOP" "$CACHE" "$@"

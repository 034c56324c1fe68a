#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Runs a command in the sysroot: enter.sh COMMAND ARGUMENT...
#
# Checkout and cache are where they are outside, and the checkout is also in a place without
# blanks in its path. enter.sh --where says whether that is the host itself, or a sysroot.
# With VM_ROOT=FOLDER, the root file system is another one, entered as root.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"
[ $# != 0 ] || die "enter.sh COMMAND ARGUMENT..."

host_is_suitable() {
	[ "$PLAIN_TOP" = "$TOP" ] || return 1
	# shellcheck source=/dev/null
	[ "$(. /etc/os-release && echo "${VERSION_CODENAME:-}")" = "$SUITE" ] || return 1
	apt-get source -qq --print-uris "$QEMU_SOURCE" > /dev/null 2>&1 || return 1
	# shellcheck disable=SC2086 # a list of words
	apt-cache show $STOCK_PACKAGES "$STOCK_SOURCE" "$INTREE_SOURCE" > /dev/null 2>&1 || return 1
	# shellcheck disable=SC2086 # a list of words
	dpkg-query -W -f '${Status}\n' $SYSROOT_PACKAGES 2> /dev/null |
		awk '!/ok installed/ { bad = 1 } END { exit bad || NR == 0 }'
}

if [ -z "${VM_ROOT:-}" ] && host_is_suitable; then
	[ "$1" != --where ] || { echo host; exit 0; }
	exec "$@"
fi
[ "$1" != --where ] || { echo sysroot; exit 0; }

root=${VM_ROOT:-$(sysroot_dir)}
[ -n "${VM_ROOT:-}" ] || as_root "$0" "$@"
[ -e "$root" ] || die "there is no sysroot yet; $VM_DIR/sysroot.sh makes it"
: "${VM_APT_PROXY=$(apt_proxy)}"
carry
user=(chroot)
owner=
[ -n "${VM_ROOT:-}" ] || owner=$(owner)
if [ -n "$owner" ]; then
	# With the group of /dev/kvm, which root may use, too.
	groups=${owner#*:} kvm=$(stat -c %g /dev/kvm 2> /dev/null || echo 0)
	[ "$kvm" = 0 ] || groups+=,$kvm
	user+=("--userspec=+${owner%:*}:+${owner#*:}" "--groups=$groups")
	grep -q "^[^:]*:[^:]*:${owner%:*}:" "$root/etc/passwd" ||
		echo "owner:x:$owner::/tmp:/bin/bash" >> "$root/etc/passwd"
fi
dir=$PWD
case $dir in "$TOP"* | "$CACHE"*) ;; *) dir=$TOP ;; esac
# Mounts are in a namespace of their own, so none stays behind. In a sysroot, which is no mount
# of its own, all are private already.
propagation=private
grep -q '^[^ ]* [^ ]* [^ ]* [^ ]* / ' /proc/self/mountinfo || propagation=unchanged
# shellcheck disable=SC2016 # expanded by the inner shell
exec unshare --mount --propagation $propagation bash -c '
	set -e
	root=$1 top=$2 plain=$3 cache=$4 certificates=$5
	shift 5
	# First: checkout or cache may be in it.
	mount -t tmpfs tmpfs "$root/tmp"
	mkdir -p "$root$top" "$root$plain" "$root$cache"
	# With what is mounted in it: out may be on another file system.
	mount --rbind "$top" "$root$top"
	[ "$plain" = "$top" ] || mount --rbind "$top" "$root$plain"
	mount --bind "$cache" "$root$cache"
	mount --rbind /dev "$root/dev"
	# In a user namespace, there is only that of the host.
	mount -t proc proc "$root/proc" 2> /dev/null || mount --rbind /proc "$root/proc"
	# as FILE OF-THE-HOST: if that is there.
	as() {
		if [ -e "$2" ]; then
			mkdir -p "$root${1%/*}"
			touch "$root$1"
			mount --bind "$2" "$root$1"
		fi
	}
	as /etc/resolv.conf /etc/resolv.conf
	as /etc/hosts /etc/hosts
	as /etc/ssl/certs/ca-certificates.crt "$certificates"
	exec "$@"
' - "$root" "$TOP" "$PLAIN_TOP" "$CACHE" "$(certificates)" \
	"${user[@]}" "$root" env -i -C "$dir" \
	PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LC_ALL=C.UTF-8 TERM="${TERM:-dumb}" \
	CARGO_HOME="$CARGO_HOME" CARGO_TARGET_DIR="$CARGO_TARGET_DIR" "${CARRIED[@]}" "$@"

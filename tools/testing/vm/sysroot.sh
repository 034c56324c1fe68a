#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Makes the system that everything is built and run in: a Debian of the suite
# that versions.conf names, with the packages that it names. Where the host is
# such a system already, there is nothing to do.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=tools/testing/vm/mirror.sh
. "$VM_DIR/mirror.sh"

# mount_proc FOLDER: if it is not there. A user namespace may have only that of the host.
mount_proc() {
	[ -e "$1/self" ] || mount -t proc proc "$1" 2> /dev/null || mount --rbind /proc "$1"
}

# fill FOLDER MIRROR
fill() {
	local root=$1 mirror=$2 script=() device package certificates
	mkdir -p "$root"/{dev,proc}
	mount_proc "$root/proc"
	# In a user namespace no device can be made; debootstrap takes those that are there.
	for device in null zero full random urandom tty ptmx; do
		: > "$root/dev/$device"
		mount --bind "/dev/$device" "$root/dev/$device"
	done
	# One of a host that does not know the suite yet: newer ones have all the same script.
	[ -e "/usr/share/debootstrap/scripts/$SUITE" ] || script=(/usr/share/debootstrap/scripts/sid)
	# As in a container: it does not try to make devices.
	container=lxc debootstrap --arch=amd64 --variant=minbase --force-check-gpg \
		"--keyring=$KEYRING" "$SUITE" "$root" "$mirror" "${script[@]}"

	echo force-unsafe-io > "$root/etc/dpkg/dpkg.cfg.d/unsafe-io"
	cat > "$root/etc/apt/sources.list" <<- END
		deb $mirror $SUITE main
		deb $mirror $SUITE-updates main
		deb $mirror $BACKPORTS main
		deb-src $mirror $SUITE main
	END
	cp /etc/resolv.conf /etc/hosts "$root/etc/"
	# What the host trusts beyond the usual, a sysroot on it must trust, too.
	mkdir -p "$root/etc/ssl/certs"
	certificates=$(certificates)
	[ -z "$certificates" ] || cp "$certificates" "$root/etc/ssl/certs/ca-certificates.crt"
	mount_proc "$root/proc"
	in_root() { chroot "$root" env DEBIAN_FRONTEND=noninteractive LC_ALL=C "$@"; }
	in_root apt-get update -qq
	for package in $SYSROOT_PACKAGES; do
		in_root apt-cache show "$package" > /dev/null 2>&1 ||
			die "the archive has no package $package: adapt tools/testing/vm/versions.conf"
	done
	# shellcheck disable=SC2086 # a list of words
	in_root apt-get install -y -qq --no-install-recommends $SYSROOT_PACKAGES
	in_root apt-get clean
}

if [ "${1:-}" = --fill ]; then
	fill "$2" "$3"
	exit
fi
if [ "$("$VM_DIR/enter.sh" --where)" = host ]; then
	exit 0
fi
root=$(sysroot_dir)
[ ! -e "$root" ] || exit 0

# All this is apt's.
: "${http_proxy=$(apt_proxy)}"
carry
export http_proxy "${CARRIED[@]}"
need_debootstrap /etc/os-release
mirror=$(mirror /etc/apt)
tmp=$root.tmp
rm -rf --one-file-system "$tmp"
# Mounts and processes end with it, however it ends.
unshare --mount --propagation private --pid --fork --kill-child "$0" --fill "$tmp" "$mirror"
mv "$tmp" "$root"

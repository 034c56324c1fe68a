#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Makes the system that everything is built and run in: a Debian of the suite
# that versions.conf names, with the packages that it names. Where the host is
# such a system already, there is nothing to do.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"

# mirror: where the host gets its packages from.
mirror() {
	{
		sed -nE 's/^URIs: *([^ ]+).*/\1/p' /etc/apt/sources.list.d/*.sources 2> /dev/null
		sed -nE 's/^deb +(\[[^]]*\] +)?([^ ]+) .*/\2/p' \
			/etc/apt/sources.list /etc/apt/sources.list.d/*.list 2> /dev/null
	} | grep -E '/debian/?$' | head -n 1
}

if [ "$("$VM_DIR/enter.sh" --where)" = host ]; then
	exit 0
fi
root=$(sysroot_dir)
[ ! -e "$root" ] || exit 0

mirror=$(mirror || true)
[ -n "$mirror" ] || die "no Debian mirror in /etc/apt: a host with apt is needed"
if ! command -v debootstrap > /dev/null; then
	DEBIAN_FRONTEND=noninteractive apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq debootstrap
fi

tmp=$root.tmp
rm -rf "$tmp"
debootstrap --variant=minbase "$SUITE" "$tmp" "$mirror"
echo force-unsafe-io > "$tmp/etc/dpkg/dpkg.cfg.d/unsafe-io"
cat > "$tmp/etc/apt/sources.list" << END
deb $mirror $SUITE main
deb $mirror $SUITE-updates main
deb $mirror $BACKPORTS main
deb-src $mirror $SUITE main
END
cp /etc/resolv.conf "$tmp/etc/resolv.conf"
# What the host trusts beyond the usual, a sysroot on it must trust, too.
mkdir -p "$tmp/etc/ssl/certs"
in_root() { chroot "$tmp" env DEBIAN_FRONTEND=noninteractive LC_ALL=C "$@"; }
in_root apt-get update -qq
# shellcheck disable=SC2086 # a list of words
for package in $SYSROOT_PACKAGES; do
	in_root apt-cache show "$package" > /dev/null 2>&1 ||
		die "the archive has no package $package: adapt tools/testing/vm/versions.conf"
done
# shellcheck disable=SC2086 # a list of words
in_root apt-get install -y -qq --no-install-recommends $SYSROOT_PACKAGES
in_root apt-get clean
mv "$tmp" "$root"

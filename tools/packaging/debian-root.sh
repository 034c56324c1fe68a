#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Makes a small Debian of the suite that versions.conf names: packages are made in one, and
# installed in copies of it. What a package needs and does not depend on is missing there.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/../testing/vm/common.sh"
always_as_root "$0" "$@"

root=$(debian_dir)
[ ! -e "$root" ] || exit 0
# In the sysroot, or on a host that is like it: from the same mirror.
# shellcheck disable=SC2016 # apt expands it
mirror=$("$VM_DIR/enter.sh" apt-get indextargets --format '$(REPO_URI)' \
	"Codename: $SUITE" "Identifier: Packages" | head -n 1)
[ -n "$mirror" ] || die "apt does not say where the packages of $SUITE are from"
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
END
# No service is to be started in it.
printf '#!/bin/sh\nexit 101\n' > "$tmp/usr/sbin/policy-rc.d"
chmod +x "$tmp/usr/sbin/policy-rc.d"
VM_ROOT=$tmp "$VM_DIR/enter.sh" apt-get update -qq
mv "$tmp" "$root"

#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Where debootstrap is missing, it is installed, or the user hears how.
# shellcheck source=tools/testing/vm/hosts/_lib.sh
. "$(dirname "$0")/_lib.sh"
# shellcheck source=tools/testing/vm/common.sh
. "$SCRIPTS/common.sh"
# shellcheck source=tools/testing/vm/mirror.sh
. "$SCRIPTS/mirror.sh"

# says OS-RELEASE COMMAND
says() {
	printf '%b' "$1" > "$FOLDER/os-release"
	expect "$2" "$(installer "$FOLDER/os-release")"
}
says 'ID=debian\nVERSION_CODENAME=bookworm\n' "apt-get install debootstrap debian-archive-keyring"
says 'ID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"\n' \
	"apt-get install debootstrap debian-archive-keyring"
says 'ID=linuxmint\nID_LIKE="ubuntu debian"\n' "apt-get install debootstrap debian-archive-keyring"
says 'ID=fedora\nVERSION_ID=43\n' "dnf install debootstrap debian-keyring"
says 'ID="centos"\nID_LIKE="rhel fedora"\n' "dnf install debootstrap debian-keyring"
says 'ID=arch\n' "pacman -S --needed debootstrap debian-archive-keyring"
says 'ID=endeavouros\nID_LIKE=arch\n' "pacman -S --needed debootstrap debian-archive-keyring"
says 'ID=nixos\n' ""

# Nothing is installed for a user, nor on other distributions.
KEYRING=$FOLDER/nosuch.gpg
expect_in "install debootstrap, and $KEYRING" "$(refused need_debootstrap "$FOLDER/os-release")"
echo ID=fedora > "$FOLDER/os-release"
expect_in "    dnf install" "$(refused need_debootstrap "$FOLDER/os-release")"
echo ID=debian > "$FOLDER/os-release"
export VM_NAMESPACE=yes
expect_in "    apt-get install" "$(refused need_debootstrap "$FOLDER/os-release")"
unset VM_NAMESPACE
program apt-get <<< $'#!/bin/sh\necho "$@" >> "$FOLDER/installed"'
export FOLDER
need_debootstrap "$FOLDER/os-release"
expect_in "install -y -qq debootstrap debian-archive-keyring" "$(cat "$FOLDER/installed")"
# With both, there is nothing to do.
rm "$FOLDER/installed"
program debootstrap <<< '#!/bin/sh'
: > "$KEYRING"
need_debootstrap "$FOLDER/os-release"
gone "$FOLDER/installed"

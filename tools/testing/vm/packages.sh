# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Debian packages in a folder of their own, so that the sysroot stays as it is; to be sourced
# after common.sh.

# unpack FOLDER SUITE PACKAGE...: unpacks packages of the suite, or a release, into a folder.
unpack() {
	local folder=$1 suite=$2 package debs
	shift 2
	mkdir -p "$folder"
	debs=$(mktemp -d)
	apt-get update -qq
	for package; do
		# Some have versions of their own.
		(cd "$debs" && apt-get download -qq -o APT::Sandbox::User=root "$package/$suite") ||
			die "$suite has no package $package: adapt tools/testing/vm/versions.conf"
		dpkg-deb -x "$debs/$package"_*.deb "$folder"
	done
	rm -rf "$debs"
}

# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Debian packages in a folder of their own, so that the sysroot stays as it is, and what test
# machines get of them; to be sourced after common.sh.

# shellcheck source=tools/testing/vm/apt.sh
. "$VM_DIR/apt.sh"

# unpack FOLDER SUITE PACKAGE...: unpacks packages of the suite, or a release, into a folder.
unpack() {
	local folder=$1 suite=$2 package debs
	shift 2
	mkdir -p "$folder"
	debs=$(mktemp -d)
	apt_get update
	for package; do
		# Some have versions of their own.
		(cd "$debs" && apt_get download "$package/$suite") ||
			die "$suite has no package $package: adapt tools/testing/vm/versions.conf"
		dpkg-deb -x "$debs/$package"_*.deb "$folder"
	done
	rm -rf "$debs"
}

# add_program FILES UNPACKED PROGRAM: adds a program to the files of a test machine, with the
# libraries that it needs: each where it is in the sysroot, or in a folder of unpacked packages.
add_program() {
	local files=$1 unpacked=$2 program=$3 libraries library to
	libraries=$(LD_LIBRARY_PATH=$unpacked/usr/lib/x86_64-linux-gnu ldd "$program")
	if grep -q 'not found' <<< "$libraries"; then
		die "the sysroot does not have what $program needs: $libraries"
	fi
	mkdir -p "$files/usr/bin"
	cp "$program" "$files/usr/bin"
	# "name => path (address)", or "path (address)" of the loader.
	sed -nE 's|^.*[[:space:]](/[^ ]+) \(.*$|\1|p' <<< "$libraries" | while read -r library; do
		to=$files/${library#"$unpacked"}
		mkdir -p "${to%/*}"
		cp -L "$library" "$to"
	done
}

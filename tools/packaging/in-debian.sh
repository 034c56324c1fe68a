# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Runs commands in the Debian at $VM_ROOT, and writes what they say to $log; to be sourced after
# common.sh.

# run COMMAND...: in that Debian.
run() { "$VM_DIR/enter.sh" env DEBIAN_FRONTEND=noninteractive "$@"; }

# logged COMMAND...: the same, into the log.
logged() {
	echo "+ $*" >> "${log:?}"
	run "$@" >> "$log" 2>&1
}

# apt ARGUMENT...: apt-get, into the log. What was downloaded once is not again.
apt() {
	mkdir -p "$CACHE/debs/partial"
	logged apt-get -y -qq -o "Dir::Cache::archives=$CACHE/debs" \
		-o APT::Keep-Downloaded-Packages=true -o APT::Sandbox::User=root \
		--no-install-recommends "$@"
}

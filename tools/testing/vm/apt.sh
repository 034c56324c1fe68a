# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Fetches Debian packages, also for a user who is not root; to be sourced after common.sh.

# apt_get COMMAND ARGUMENT...: apt-get with lists in the cache.
apt_get() {
	local lists=$CACHE/apt/lists
	mkdir -p "$lists/partial" "$CACHE/apt/archives/partial"
	apt-get -qq -o "Dir::State::Lists=$lists" -o "Dir::Cache=$CACHE/apt" \
		-o APT::Sandbox::User=root \
		${VM_APT_PROXY:+-o "Acquire::http::Proxy=$VM_APT_PROXY"} "$@"
}

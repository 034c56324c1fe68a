# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What the tests beside it share; to be sourced. A test has a checkout and a cache of its own, in
# $FOLDER, and ends when something is not as it should be.

set -euo pipefail

VM=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
FOLDER=$(mktemp -d)
trap 'rm -rf --one-file-system "$FOLDER"' EXIT
CHECKOUT="$FOLDER/a checkout"
CACHE=$FOLDER/cache
mkdir -p "$CHECKOUT/tools/testing"
cp -r "$VM" "$CHECKOUT/tools/testing/vm"
# shellcheck disable=SC2034 # for those that source this
SCRIPTS=$CHECKOUT/tools/testing/vm
export VFIO_MLX5_RUST_CACHE=$CACHE
unset VFIO_MLX5_RUST_MIRROR VM_MAKE MAKELEVEL VM_NAMESPACE VM_APT_PROXY \
	{http,https,ftp,all,no}_proxy {HTTP,HTTPS,FTP,ALL,NO}_PROXY

# may_mount: for tests that do. Only root runs them.
may_mount() { [ "$(id -u)" = 0 ] && unshare --mount true 2> /dev/null; }

# expect WANTED GOT
expect() {
	[ "$1" = "$2" ] || {
		printf 'expected:\n%s\ngot:\n%s\n' "$1" "$2"
		exit 1
	}
}

# expect_in WORDS TEXT: the text has the words.
expect_in() {
	[[ $2 == *"$1"* ]] || {
		printf 'expected somewhere:\n%s\nin:\n%s\n' "$1" "$2"
		exit 1
	}
}

# there PATH..., gone PATH...: whether they exist.
there() {
	local path
	for path; do
		[ -e "$path" ] || { echo "there is no $path" && exit 1; }
	done
}
gone() {
	local path
	for path; do
		[ ! -e "$path" ] || { echo "there is $path" && exit 1; }
	done
}

# refused COMMAND...: its message. It must fail.
refused() {
	if ("$@") 2>&1; then
		echo "this has not failed: $*"
		exit 1
	fi
}

# program NAME: a program that comes first from now on, from stdin.
program() {
	mkdir -p "$FOLDER/bin"
	cat > "$FOLDER/bin/$1"
	chmod +x "$FOLDER/bin/$1"
	PATH=$FOLDER/bin:${PATH#"$FOLDER/bin:"}
}

# begin COMMAND...: begins it as a job of its own, $made, whose output goes to $FOLDER/log. Returns
# once it has made $FOLDER/started.
begin() {
	set -m
	"$@" > "$FOLDER/log" 2>&1 &
	made=$!
	set +m
	until [ -e "$FOLDER/started" ]; do
		kill -0 $made || { cat "$FOLDER/log"; exit 1; }
		sleep 0.05
	done
}

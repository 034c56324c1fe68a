#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Removes what the scripts beside it have made in the cache, and the folder if it is empty then.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"

case $(realpath "$CACHE") in
/ | "$(realpath "${HOME:-/}")" | /bin | /boot | /dev | /etc | /home | /lib* | /media | /mnt | /opt | \
	/proc | /root | /run | /sbin | /srv | /sys | /tmp | /usr | /var)
	die "$CACHE is no folder to remove things from"
	;;
esac
# Names such as build are anybody's.
[ -e "$TAG" ] || [ "${CACHE##*/}" = vfio-mlx5-rust ] ||
	die "$CACHE had other files before the cache was put there: remove what is not needed by hand"

# Nobody may be at work there.
for lock in "$CACHE"/locks/*; do
	[ ! -e "$lock" ] || flock --nonblock "$lock" true ||
		die "the cache is in use$(head -n 1 "$lock" | sed 's/^/ by process /'): end that first"
done
# What is mounted there is no part of it.
mounted=$(awk -v cache="$(realpath "$CACHE")/" 'index($5, cache) == 1 { print "    " $5 }' \
	/proc/self/mountinfo)
[ -z "$mounted" ] || die "this is mounted there, and must be unmounted first:"$'\n'"$mounted"

# Stages of common.sh, complete or not, of any version of their inputs.
stages=$(sed -nE 's/^([a-z_]+)_dir\(\) .*/\1/p' "$VM_DIR/common.sh" | tr '_\n' '-|')
# free: MiB of the file system.
free() { df --output=avail -BM "$CACHE" | tr -dc 0-9; }
before=$(free)
find "$CACHE" -mindepth 1 -maxdepth 1 | while read -r made; do
	name=${made##*/}
	if [[ $name =~ ^(${stages%|})-[0-9a-f]{16}(\.tmp|\.debs)?$ ||
		$name =~ ^(apt|build|cargo|debs|target)$ ]]; then
		echo "removing $made"
		# A sysroot has files of others.
		rm -rf --one-file-system "$made" 2> "$OUT/log/distclean" || exit
	fi
done || {
	[ "$(id -u)" = 0 ] || as_root "$0" "$@"
	die "$(head -n 1 "$OUT/log/distclean")"
}
echo "about $(($(free) - before)) MiB are free again"
rm -rf "$CACHE/locks"
left=$(find "$CACHE" -mindepth 1 -maxdepth 1 ! -path "$TAG")
if [ -n "$left" ]; then
	printf 'These were made by something else, and stay:\n%s\n' "$left"
	exit
fi
rm -f "$TAG"
rmdir "$CACHE" 2> /dev/null || true

#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# What is run in a sysroot finds checkout, cache, proxies and names of the host, and leaves
# nothing mounted.
# shellcheck source=tools/testing/vm/hosts/_lib.sh
. "$(dirname "$0")/_lib.sh"
may_mount || exit 0
# shellcheck source=tools/testing/vm/common.sh
. "$SCRIPTS/common.sh"

# This system itself, in a folder.
root=$(sysroot_dir)
mkdir -p "$root"/{dev,etc/ssl/certs,proc,tmp,usr}
cp /etc/passwd /etc/group "$root/etc/"
ln -s usr/bin usr/sbin usr/lib usr/lib64 "$root/"
# shellcheck disable=SC2016 # expanded by the inner shell
enter() {
	unshare --mount --propagation private bash -c '
		mount --rbind /usr "$0/usr" && exec "$@"' "$root" "$SCRIPTS/enter.sh" "$@"
}
expect sysroot "$("$SCRIPTS/enter.sh" --where)"

# Blanks in paths and arguments.
expect "a  b|" "$(enter printf '%s|' 'a  b')"
expect "$CHECKOUT" "$(enter pwd)"
expect "$CHECKOUT/tools" "$(cd "$CHECKOUT/tools" && enter pwd)"
expect "$(cat "$SCRIPTS/enter.sh")" "$(enter cat /checkout/tools/testing/vm/enter.sh)"
enter touch "$CHECKOUT/out/made" "$CACHE/made"
there "$CHECKOUT/out/made" "$CACHE/made"

# What is mounted in the checkout is there, too.
export -f enter
export root SCRIPTS CHECKOUT
# shellcheck disable=SC2016 # expanded by the inner shell
expect $'log\nmade\nmade-too' "$(unshare --mount --propagation private bash -c '
	mount -t tmpfs none "$CHECKOUT/out"
	enter touch "$CHECKOUT/out/made" /checkout/out/made-too
	ls "$CHECKOUT/out"')"

# Proxies, in both spellings, and nothing else.
export HTTP_PROXY=http://big:1 https_proxy=http://small:2 HTTPS_PROXY=http://other:3 no_proxy=.local
export OTHER=other
expect 'http_proxy=http://big:1
HTTP_PROXY=http://big:1
https_proxy=http://small:2
HTTPS_PROXY=http://small:2
no_proxy=.local
NO_PROXY=.local' "$(enter env | grep -iE 'proxy|other')"
expect "$(cat /etc/hosts)" "$(enter cat /etc/hosts)"
expect "$(cat /etc/resolv.conf)" "$(enter cat /etc/resolv.conf)"

# What is run belongs to the owner of cache and checkout.
expect 0 "$(enter id -u)"
chown 12345:12345 "$CACHE" "$CHECKOUT" "$CHECKOUT/out"
expect 12345 "$(enter id -u)"
expect 12345 "$(enter id -g)"
expect owner "$(enter whoami)"
enter touch "$CHECKOUT/out/theirs"
expect 12345 "$(stat -c %u "$CHECKOUT/out/theirs")"
chown 0 "$CHECKOUT"
expect 0 "$(enter id -u)"

expect '' "$(grep -F "$FOLDER" /proc/self/mountinfo || true)"

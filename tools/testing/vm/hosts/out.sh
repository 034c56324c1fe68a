#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Where logs and results cannot be written, a message says what to do, for that folder.
# shellcheck source=tools/testing/vm/hosts/_lib.sh
. "$(dirname "$0")/_lib.sh"
# shellcheck source=tools/testing/vm/common.sh
. "$SCRIPTS/common.sh"

prepare() { "$SCRIPTS/prepare.sh" sources; }
out="$CHECKOUT/out"

# A path is quoted only if a shell needs that.
expect "'$out'" "$(quoted "$out")"
expect "$CACHE" "$(quoted "$CACHE")"
rm -r "$out"

# Something else has the name.
: > "$out"
expect_in "mv '$out' '$out.old'" "$(refused prepare)"
rm "$out"
ln -s nosuch "$out"
expect_in "mv '$out' '$out.old'" "$(refused prepare)"
rm "$out"

# No room: the cache, which has enough, is not to be removed.
sed -i 's/^DISK_\(.*\)=.*/DISK_\1=0/; s/^DISK_out=.*/DISK_out=999999999/' "$SCRIPTS/requirements.conf"
message=$(refused prepare)
expect_in "'$out' has" "$message"
expect_in "make clean removes" "$message"
[[ $message != *distclean* && $message != *XDG_CACHE_HOME* ]] || {
	echo "$message"
	exit 1
}

may_mount || exit 0
# read_only COMMAND...: with a file system there that is.
read_only() {
	# shellcheck disable=SC2016 # expanded by the inner shell
	unshare --mount --propagation private bash -c 'mount -t tmpfs -o ro none "$0" && exec "$@"' "$out" "$@"
}
expect_in "copy the checkout to another one" "$(refused read_only "$SCRIPTS/prepare.sh" sources)"

#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# A sysroot whose making is killed leaves nothing mounted or running, and is made the next time.
# shellcheck source=tools/testing/vm/hosts/_lib.sh
. "$(dirname "$0")/_lib.sh"
may_mount || exit 0
# shellcheck source=tools/testing/vm/common.sh
. "$SCRIPTS/common.sh"

# An archive, and programs that only say what they are to do.
sed -i "s|^KEYRING=.*|KEYRING=$FOLDER/keyring|" "$SCRIPTS/mirror.sh"
: > "$FOLDER/keyring"
program curl <<< $'#!/bin/sh\nprintf "Origin: Debian\\nLabel: Debian\\n"'
program chroot <<< $'#!/bin/sh\necho chroot "$@"'
program debootstrap << 'END'
#!/bin/bash
root=${@: -2:1}
[ -d "$root" ] || root=${@: -3:1}
mkdir -p "$root"/{etc/dpkg/dpkg.cfg.d,etc/apt,usr/bin}
echo "$@" >> "$FOLDER/started"
[ -e "$FOLDER/quick" ] || sleep 1000
END
export FOLDER
root=$(sysroot_dir)

for signal in KILL TERM; do
	begin "$SCRIPTS/sysroot.sh"
	kill -s $signal -- -$made
	wait $made 2> /dev/null || true
	there "$root.tmp"
	gone "$root"
	expect '' "$(grep -F "$FOLDER" /proc/self/mountinfo || true)"
	# It may take a moment until they have ended.
	for _ in {1..200}; do
		running=$(pgrep -f "$FOLDER/bin/debootstrap" || true)
		[ -n "$running" ] || break
		sleep 0.05
	done
	expect '' "$running"
	rm "$FOLDER/started"
done
: > "$root.tmp/rest"
: > "$FOLDER/quick"
"$SCRIPTS/sysroot.sh" > "$FOLDER/log" 2>&1 || { cat "$FOLDER/log"; exit 1; }
gone "$root.tmp" "$root/rest"
there "$root/etc/apt/sources.list"
expect_in "apt-get install" "$(cat "$FOLDER/log")"
# It is there now.
rm "$FOLDER/started"
"$SCRIPTS/sysroot.sh"
gone "$FOLDER/started"

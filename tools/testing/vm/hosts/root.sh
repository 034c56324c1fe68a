#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The sysroot is entered by whoever can, or the message says what that takes.
# shellcheck source=tools/testing/vm/hosts/_lib.sh
. "$(dirname "$0")/_lib.sh"
# shellcheck source=tools/testing/vm/common.sh
. "$SCRIPTS/common.sh"

root=no
! may_mount || root=yes

# A host that needs a sysroot, and a user of it.
mkdir "$FOLDER/vm"
VM_DIR=$FOLDER/vm
where=sysroot user=1000 mounts=no
cat > "$VM_DIR/enter.sh" << 'END'
#!/bin/sh
echo $where
END
chmod +x "$VM_DIR/enter.sh"
cp "$SCRIPTS/sysroot.sh" "$VM_DIR/"
export where
# shellcheck disable=SC2329 # as_root calls them
{
	id() { [ "$1" = -u ] && echo "$user" || echo somebody; }
	can_mount() { [[ $mounts = yes || $mounts = "${1:-root}" ]]; }
}
NAMESPACE=("$FOLDER/bin/unshare" in)
program unshare <<< $'#!/bin/sh\necho namespace: "$@"'
# A host without sudo.
hidden=$FOLDER/path
mkdir "$hidden"
for name in awk basename cat cp cut env head mktemp printf sed sha256sum stat sh bash; do
	ln -s "$(type -P $name)" "$hidden/$name"
done
# as CASE...: what becomes of a script.
as() { (PATH=$hidden; as_root script argument; echo goes on) 2>&1 || true; }

where=host
expect "goes on" "$(as)"
where=sysroot
expect_in "usermod --add-subuids" "$(as)"
mounts=$FOLDER/bin/unshare
https_proxy=http://proxy:1 expect_in "https_proxy=http://proxy:1 HTTPS_PROXY=http://proxy:1" \
	"$(https_proxy=http://proxy:1 as)"
expect_in "VM_NAMESPACE=yes script argument" "$(as)"
mounts=no
ln -s "$FOLDER/bin/unshare" "$hidden/sudo"
expect_in "VFIO_MLX5_RUST_CACHE=$CACHE script argument" "$(as)"

user=0 mounts=no
expect_in "--privileged" "$(as)"
mounts=root
expect "goes on" "$(as)"
mounts=no where=host
expect "goes on" "$(as)"

# What sudo has made becomes the user's.
[ $root = yes ] || exit 0
chown 1000:1000 "$CACHE" "$CHECKOUT"
mkdir -p "$CACHE/build/warnings" "$CACHE/sysroot-0123456789abcdef/usr" "$OUT/vm/stock"
give_back
expect "1000 1000 1000 0" "$(stat -c %u "$CACHE/build/warnings" "$OUT/vm/stock" "$CACHE/locks" \
	"$CACHE/sysroot-0123456789abcdef/usr" | paste -sd ' ')"
expect 1000:1000 "$(owner)"

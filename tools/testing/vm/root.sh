# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Who enters the sysroot, whose files come of it, and which variables go along; to be sourced
# by common.sh.
#
# A sysroot is entered as root: by root, by a user who is root of a user namespace of their own,
# or by sudo. What is run in it belongs to the owner of the cache, whoever entered it.

# carry: what the environment has for the sysroot, as NAME=VALUE words in the array CARRIED.
# sudo and enter.sh drop the rest.
carry() {
	local name lower value
	CARRIED=("VFIO_MLX5_RUST_CACHE=$CACHE")
	for name in VFIO_MLX5_RUST_MIRROR VM_MAKE VM_APT_PROXY; do
		[ -z "${!name:-}" ] || CARRIED+=("$name=${!name}")
	done
	# Some programs read only one of the two spellings: apt and wget the small one.
	for name in http https ftp all no; do
		lower=${name}_proxy name=${name^^}_PROXY
		value=${!lower:-${!name:-}}
		[ -z "$value" ] || CARRIED+=("$lower=$value" "$name=$value")
	done
}

# apt_proxy: that of the host's apt, which may serve nothing but packages.
apt_proxy() {
	local proxy=
	! command -v apt-config > /dev/null || eval "$(apt-config shell proxy Acquire::http::Proxy)"
	echo "$proxy"
}

# certificates: the file with those that the host trusts: of Debian and Arch, of Fedora, of
# openSUSE.
certificates() {
	local file
	for file in ssl/certs/ca-certificates.crt pki/tls/certs/ca-bundle.crt ssl/ca-bundle.pem; do
		[ ! -e "/etc/$file" ] || { echo "/etc/$file" && return; }
	done
}

# A user who has subordinate ids can be root among them.
NAMESPACE=(unshare --user --map-root-user --map-auto)

# can_mount [COMMAND...]: whether that may, in a mount namespace: a container's root may not,
# and some kernels let nobody do that in a user namespace.
can_mount() {
	"$@" unshare --mount --propagation private mount -t tmpfs tmpfs /tmp 2> /dev/null
}

# as_root "$0" "$@": goes on as root, if there is a sysroot to be entered.
as_root() {
	if [ "$(id -u)" = 0 ]; then
		can_mount || [ "$("$VM_DIR/enter.sh" --where)" = host ] || die_of_no_mount
		return
	fi
	[ "$("$VM_DIR/enter.sh" --where)" = sysroot ] || return 0
	become_root "$@"
}

# always_as_root "$0" "$@": the same, for what enters another system, on each host.
always_as_root() {
	[ "$(id -u)" = 0 ] || become_root "$@"
}

become_root() {
	local root
	carry
	root=$(sysroot_dir)
	# A sysroot that root has made is no user's.
	if { [ ! -e "$root" ] || [ -O "$root" ]; } && can_mount "${NAMESPACE[@]}"; then
		exec "${NAMESPACE[@]}" env "${CARRIED[@]}" VM_NAMESPACE=yes "$@"
	fi
	command -v sudo > /dev/null || die_of_no_root "$root"
	echo "entering the sysroot needs root:" >&2
	exec sudo env "${CARRIED[@]}" "$@"
}

die_of_no_mount() {
	die "root may not mount here, and the sysroot is entered with mounts. If this is a
    container, give it more rights, such as by
        docker run --privileged, or podman run --privileged
    or take one of Debian $SUITE with all packages that tools/testing/vm/versions.conf names,
    its BACKPORTS and deb-src lines in /etc/apt, and after apt-get update: it needs no sysroot."
}

# die_of_no_root SYSROOT
die_of_no_root() {
	if [ -e "$1" ] && [ ! -O "$1" ]; then
		die "$1 is another user's: remove it as that user. There is no sudo"
	fi
	die "the sysroot is entered as root, and there is no sudo. Run this as root; or, where the
    kernel lets users be root of a namespace, have root give you what that takes:
        apt-get install uidmap      # newuidmap; elsewhere in shadow, or shadow-utils
        usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $(id -un)"
}

# owner: user and group of the cache, as UID:GID, if root works there for them. Their checkout
# must be theirs, too.
owner() {
	local owner
	[ "$(id -u)" = 0 ] || return 0
	owner=$(stat -c %u:%g "$CACHE")
	[[ $owner == 0:* || $(stat -c %u "$TOP") != "${owner%:*}" ]] || echo "$owner"
}

# give_back: what root has made in cache and checkout becomes the owner's. Folders whose names
# begin with sysroot- stay root's.
give_back() {
	local owner
	owner=$(owner)
	[ -n "$owner" ] || return 0
	find "$CACHE" "$OUT" -mindepth 1 -maxdepth 2 \( -path "$CACHE/sysroot-*" -prune \) -o \
		-uid 0 -exec chown -hR "$owner" {} +
}

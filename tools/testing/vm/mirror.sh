# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Where the sysroot's packages come from, and what makes it; to be sourced after common.sh.

# listed FOLDER: the addresses in apt's configuration, /etc/apt, that end as Debian's do. Other
# archives' may, too.
# shellcheck disable=SC2016 # expanded by awk
listed() {
	{
		# Fields in paragraphs; a line that begins with a blank goes on with a field.
		find "$1/sources.list.d" -name '*.sources' 2> /dev/null | LC_ALL=C sort |
			xargs -r -d '\n' awk '
				function show() {
					if (!off)
						printf "%s", uris
					uris = ""
					off = 0
				}
				FNR == 1 || /^[ \t]*$/ { show() }
				/^#/ { next }
				/^[^ \t]/ { field = tolower($1); sub(/:.*/, "", field); sub(/^[^:]*:/, "") }
				field == "enabled" && tolower($1) == "no" { off = 1 }
				field == "uris" { for (i = 1; i <= NF; i++) uris = uris $i "\n" }
				END { show() }'
		sed -nE 's/^deb[[:space:]]+(\[[^]]*\][[:space:]]+)?([^[:space:]]+)[[:space:]].*/\2/p' \
			"$1"/sources.list "$1"/sources.list.d/*.list 2> /dev/null || true
	} | while read -r uri; do
		case $uri in
		# A file with an address in each line, and what it is good for.
		mirror+file:/*) sed -E '/^[[:space:]]*#/d; s/[[:space:]].*//' "${uri#mirror+file:}" ;;
		*) echo "$uri" ;;
		esac
	done | grep -E '^https?://.*/debian/?$' | awk '!seen[$0]++'
}

# fetch ADDRESS
fetch() {
	if command -v curl > /dev/null; then
		curl -fsSL --connect-timeout 20 --max-time 60 "$1"
	else
		wget -q -O - --timeout 20 --tries 1 "$1"
	fi
}

# is_debian ADDRESS: whether that has the suite of Debian's own archive.
is_debian() {
	fetch "$1/dists/$SUITE/Release" 2> /dev/null | awk '
		$0 == "Origin: Debian" || $0 == "Label: Debian" { found++ }
		END { exit found != 2 }'
}

# mirror FOLDER: the first that has the suite: of what the user says; or apt has in /etc/apt, the
# folder; or anybody may take.
mirror() {
	local uri uris=()
	[ -z "${VFIO_MLX5_RUST_MIRROR:-}" ] || uris=("$VFIO_MLX5_RUST_MIRROR")
	[ "${#uris[@]}" != 0 ] || mapfile -t uris < <(listed "$1"; echo "$MIRROR")
	for uri in "${uris[@]}"; do
		! is_debian "$uri" || { echo "$uri" && return; }
	done
	die "no archive with Debian $SUITE can be reached. These were tried:
$(printf '    %s\n' "${uris[@]}")
VFIO_MLX5_RUST_MIRROR=http://... can be another one. Behind a proxy, http_proxy= and
https_proxy= must be set."
}

# What signs Debian's archive, in all distributions.
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

# installer OS-RELEASE: the command that installs debootstrap and that, on a host like this.
installer() {
	# shellcheck source=/dev/null
	case " $(. "$1" && echo "$ID ${ID_LIKE:-}") " in
	*" debian "* | *" ubuntu "*) echo "apt-get install debootstrap debian-archive-keyring" ;;
	*" fedora "*) echo "dnf install debootstrap debian-keyring" ;;
	*" arch "*) echo "pacman -S --needed debootstrap debian-archive-keyring" ;;
	esac
}

# need_debootstrap OS-RELEASE: that is there from now on, with the keyring. Only apt is used
# without asking.
need_debootstrap() {
	local command
	! command -v debootstrap > /dev/null || [ ! -e "$KEYRING" ] || return 0
	command=$(installer "$1" || true)
	if [[ $command == apt-get* && -z ${VM_NAMESPACE:-} ]]; then
		export DEBIAN_FRONTEND=noninteractive
		apt-get update -qq
		apt-get install -y -qq debootstrap debian-archive-keyring
		return
	fi
	[ -n "$command" ] || command="install debootstrap, and $KEYRING"
	die "debootstrap and the keys of Debian's archive are needed. As root:
    $command"
}

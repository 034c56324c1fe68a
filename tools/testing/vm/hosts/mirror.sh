#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Debian's archive is found in what hosts have in /etc/apt.
# shellcheck source=tools/testing/vm/hosts/_lib.sh
. "$(dirname "$0")/_lib.sh"
# shellcheck source=tools/testing/vm/common.sh
. "$SCRIPTS/common.sh"
# shellcheck source=tools/testing/vm/mirror.sh
. "$SCRIPTS/mirror.sh"

# host NAME FILE: a line of a host's file, from stdin.
host() {
	mkdir -p "$FOLDER/$1/sources.list.d"
	cat > "$FOLDER/$1/$2"
}

host deb822 sources.list.d/debian.sources << 'END'
Types: deb
# URIs: http://old.example/debian
URIs: http://one.example/debian
 https://two.example/debian/
Suites: bookworm bookworm-updates
Components: main

Types: deb
URIs: http://one.example/debian-security
Suites: bookworm-security

Enabled: no
Types: deb
uris: http://off.example/debian
END
expect $'http://one.example/debian\nhttps://two.example/debian/' "$(listed "$FOLDER/deb822")"

host lines sources.list << 'END'
# deb http://old.example/debian bookworm main
deb [arch=amd64 signed-by=/a.gpg] http://one.example/debian bookworm main
deb-src http://two.example/debian bookworm main
deb   http://one.example/debian bookworm-updates main
deb http://one.example/debian-security bookworm-security main
END
expect http://one.example/debian "$(listed "$FOLDER/lines")"

# Debian's image for clouds.
host cloud debian.list << 'END'
# Of this cloud
http://cloud.example/debian	priority:1
https://deb.example/debian
END
host cloud sources.list.d/debian.sources << END
Types: deb deb-src
URIs: mirror+file://$FOLDER/cloud/debian.list
Suites: trixie trixie-updates trixie-backports
Components: main
END
expect $'http://cloud.example/debian\nhttps://deb.example/debian' "$(listed "$FOLDER/cloud")"

host ubuntu sources.list.d/ubuntu.sources << 'END'
Types: deb
URIs: http://archive.ubuntu.com/ubuntu/
Suites: noble noble-updates
END
expect '' "$(listed "$FOLDER/ubuntu")"
expect '' "$(listed "$FOLDER/fedora, which has no apt")"

# Which of them has the suite: without a network, these addresses.
fetch() { cat "$FOLDER/servers/${1#*://}"; }
# server ADDRESS ORIGIN
server() {
	mkdir -p "$FOLDER/servers/$1/dists/$SUITE"
	printf 'Origin: %s\nLabel: %s\nSuite: stable\n' "$2" "$2" \
		> "$FOLDER/servers/$1/dists/$SUITE/Release"
}
server "${MIRROR#*://}" Debian
server docker.example/linux/debian Docker
host docker sources.list << 'END'
deb https://docker.example/linux/debian trixie stable
deb http://one.example/debian trixie main
END
# It does not have it.
expect "$MIRROR" "$(mirror "$FOLDER/docker")"
server one.example/debian Debian
expect http://one.example/debian "$(mirror "$FOLDER/docker")"
expect "$MIRROR" "$(mirror "$FOLDER/ubuntu")"
rm -r "$FOLDER/servers"
message=$(refused mirror "$FOLDER/docker")
expect_in "    http://one.example/debian"$'\n'"    $MIRROR" "$message"
expect_in http_proxy= "$message"
# What the user says is not guessed.
server one.example/debian Debian
export VFIO_MLX5_RUST_MIRROR=http://user.example/debian
expect_in http://user.example/debian "$(refused mirror "$FOLDER/lines")"
server user.example/debian Debian
expect http://user.example/debian "$(mirror "$FOLDER/lines")"

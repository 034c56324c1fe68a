#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Installs out/vfio-mig with its manual page and completions, and says where: install-tool.sh PREFIX
set -eu
tool=$(dirname "$0")/../../out/vfio-mig
prefix=${1:?}

# put FILE COMMAND...: what the tool prints about itself.
put() {
	file=$prefix/$1
	shift
	mkdir -p "$(dirname "$file")"
	"$tool" "$@" > "$file"
	chmod 644 "$file"
	echo "$file"
}

install -D -m 755 "$tool" "$prefix/sbin/vfio-mig"
echo "$prefix/sbin/vfio-mig"
put share/man/man8/vfio-mig.8 man
put share/bash-completion/completions/vfio-mig completions bash
put share/zsh/site-functions/_vfio-mig completions zsh
put share/fish/vendor_completions.d/vfio-mig.fish completions fish

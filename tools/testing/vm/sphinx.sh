#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Installs Sphinx for check-docs.sh: what the kernel's documentation asks for, in the
# versions of versions.conf. Runs in the sysroot.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"

dir=$(sphinx_dir)
[ ! -e "$dir" ] || exit 0
tmp=$dir.tmp
rm -rf "$tmp"
python3 -m venv "$tmp"
# Certificates that the host trusts, as in sysroot.sh.
# shellcheck disable=SC2086 # a list of words
"$tmp/bin/pip" --cert /etc/ssl/certs/ca-certificates.crt install --quiet \
	--disable-pip-version-check --retries 4 \
	-r "$(sources_dir)/$INTREE_SOURCE/Documentation/sphinx/requirements.txt" \
	$SPHINX_VERSIONS || die "pip cannot install $SPHINX_VERSIONS. Run this again when" \
	"pypi.org can be reached: once is enough. If it no longer has one of them, adapt" \
	"tools/testing/vm/versions.conf"
# Programs name their interpreter in their first line.
sed -i "1s|$tmp|$dir|" "$tmp"/bin/*
mv "$tmp" "$dir"

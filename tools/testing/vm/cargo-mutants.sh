#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Installs cargo-mutants, in the version of versions.conf. Runs in the sysroot.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"

dir=$(cargo_mutants_dir)
[ ! -e "$dir" ] || exit 0
tmp=$dir.tmp
rm -rf "$tmp"
cargo install --quiet --locked --root "$tmp" "cargo-mutants@$CARGO_MUTANTS_VERSION" ||
	die "cargo cannot install cargo-mutants $CARGO_MUTANTS_VERSION. Run this again when" \
		"crates.io can be reached: once is enough. If it no longer has it, adapt" \
		"tools/testing/vm/versions.conf"
mv "$tmp" "$dir"

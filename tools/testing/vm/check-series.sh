#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Writes the series as mails, and builds the kernel after each patch:
#
#   check-series.sh [mails]
#
# With "mails", it only writes them. $AUTHOR is who signs off; git knows the user's. $SERIES can be
# one series. What came of it is in out/series/report.json.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"
enter=$VM_DIR/enter.sh

if [ -z "${AUTHOR:-}" ]; then
	name=$(git config user.name 2> /dev/null || true)
	email=$(git config user.email 2> /dev/null || true)
	if [ -z "$name" ] || [ -z "$email" ]; then
		die "whose are the patches? Give AUTHOR='NAME <ADDRESS>', or have git know it:" \
			"git config user.name NAME; git config user.email ADDRESS"
	fi
	AUTHOR="$name <$email>"
fi

# Results are of what the tree has now.
rm -rf "$OUT/series"
mkdir -p "$OUT/series"
status=0
mapfile -t folders < <(our_folders)
"$enter" "$CACHE/build/patch-series" --top "$PLAIN_TOP" covers "${folders[@]}" include \
	Documentation/driver-api/vfio-rust
"$enter" "$VM_DIR/series-mails.sh" "$AUTHOR" || status=$?
if [ "${1:-}" != mails ]; then
	mapfile -t series < <("$VM_DIR/names.sh" SERIES | grep -F -e "${SERIES:-}")
	"$enter" "$VM_DIR/series.sh" "${series[@]}" || status=$?
	"$enter" "$VM_DIR/series-docs.sh" "${series[@]}" || status=$?
fi
"$enter" "$CACHE/build/patch-series" --top "$PLAIN_TOP" report "$OUT/series" || status=$?
exit "$status"

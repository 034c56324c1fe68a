#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Every file says its licence in its first lines.
set -eu
cd "$(dirname "$0")/../../.."

find . -type f -not -path './.git/*' -not -path './out/*' -not -path './LICENSES/*' -not -name Cargo.lock | while read -r file; do
	head -n 3 "$file" | grep -q SPDX-License-Identifier || echo "$file: no SPDX line"
done > out/log/spdx
cat out/log/spdx
[ ! -s out/log/spdx ]

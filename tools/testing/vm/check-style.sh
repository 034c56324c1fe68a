#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# checkpatch over the kernel side. Runs in the sysroot.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"

# It leaves a file where it is run.
cd "$OUT/log"
checkpatch=$(sources_dir)/$INTREE_SOURCE/scripts/checkpatch.pl
bad=0
while read -r file; do
	ignore=()
	# TRACE_EVENT() has a layout of its own, in the kernel as well.
	[[ $file != */include/trace/events/* ]] ||
		ignore=(--ignore "PARENTHESIS_ALIGNMENT,OPEN_ENDED_LINE")
	perl "$checkpatch" --no-tree --strict --terse --show-types "${ignore[@]}" --file "$file" > "$OUT/log/checkpatch" 2>&1 || {
		bad=1
		cat "$OUT/log/checkpatch"
	}
done < <(find "$TOP/Kbuild" "$TOP/drivers" "$TOP/include" "$TOP/samples" -type f)
exit $bad

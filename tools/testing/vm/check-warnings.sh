#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The builds that `make check` rests on warn of nothing that is ours. First, what
# is looked for is tried on lines that compilers have printed.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"
# shellcheck source=tools/testing/vm/warnings.sh
. "$VM_DIR/warnings.sh"

sample() {
	cat <<'LOG'
  CC [M]  drivers/net/other.o
drivers/net/other.c:7:5: warning: unused variable 'other' [-Wunused-variable]
drivers/vfio/ours/c.c:3:1: warning: unused variable 'first' [-Wunused-variable]
  RUSTC [M] drivers/vfio/ours/main.o
warning: unused variable: `second`
   --> ../drivers/vfio/ours/main.rs:9:7
    |
warning: unused variable: `theirs`
   --> ../rust/kernel/lib.rs:1:1
    |
warning: 1 warning emitted
drivers/vfio/ours/ours.o: warning: objtool: third() falls through to next function
WARNING: modpost: missing MODULE_DESCRIPTION() in drivers/vfio/ours/fourth.o
warning: `ours` (lib) generated 1 warning
LOG
}
found=$(sample | warnings_in 'vfio/ours' | wc -l)
[ "$found" = 4 ] || die "$found of 4 warnings are found in a sample"
found=$(sample | warnings_in . | wc -l)
[ "$found" = 6 ] || die "$found of 6 warnings are found in a sample"

bad=0
for name in "$@"; do
	if [ ! -e "$WARNINGS/$name" ]; then
		echo "no build has noted what it warns of $name"
		bad=1
	elif [ -s "$WARNINGS/$name" ]; then
		echo "$name:"
		cat "$WARNINGS/$name"
		bad=1
	fi
done
exit $bad

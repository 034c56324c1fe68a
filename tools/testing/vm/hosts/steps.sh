#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The columns of progress: each title of a step fits in its own.
# shellcheck source=tools/testing/vm/hosts/_lib.sh
. "$(dirname "$0")/_lib.sh"

titles=$(sed -nE 's/^\t+(step [a-z_0-9]+|build) "([^"]+)".*/\2/p' "$SCRIPTS/prepare.sh")
# As many as there are lines that name one.
expect "$(grep -cE '^\s+(step|build) .*"' "$SCRIPTS/prepare.sh")" "$(wc -l <<< "$titles")"
expect '' "$(awk 'length > 44' <<< "$titles")"
# Each says by itself what it is: those that take long are listed alone.
expect '' "$(grep '^the same' <<< "$titles" || true)"

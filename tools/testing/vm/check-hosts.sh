#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Tries the scripts on made-up hosts: each test in hosts/, without a network. Runs in the
# sysroot.
set -euo pipefail
cd "$(dirname "$0")/hosts"

bad=0
for test in [!_]*.sh; do
	output=$("./$test" 2>&1 < /dev/null) || {
		bad=1
		printf '%s:\n%s\n' "$test" "$output"
	}
done
exit $bad

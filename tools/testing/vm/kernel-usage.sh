#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Says where a kernel is that prepare.sh has made, and how it is used: kernel-usage.sh intree|debug
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"

objects=$("${1:?}_dir")/objects
cat << END
source:   $(intree_dir)/source
objects:  $objects
to run it in a test machine, with a scenario of make list:
    make scenario KERNEL=$1 SCENARIO=...
END

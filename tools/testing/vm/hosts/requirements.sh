#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Too little disk or memory is said before anything is downloaded.
# shellcheck source=tools/testing/vm/hosts/_lib.sh
. "$(dirname "$0")/_lib.sh"
# shellcheck source=tools/testing/vm/common.sh
. "$SCRIPTS/common.sh"
# shellcheck source=tools/testing/vm/requirements.sh
. "$SCRIPTS/requirements.sh"

host=$FOLDER/host
mkdir -p "$host/proc" "$host/sys/fs/cgroup"
printf 'MemTotal: 4096000 kB\nMemFree: 1 kB\nSwapTotal: 1024000 kB\n' > "$host/proc/meminfo"
expect 5000 "$(memory "$host")"
need_memory check "$host"
expect_in "5000 MiB" "$(refused need_memory bench "$host")"
# A container.
echo max > "$host/sys/fs/cgroup/memory.max"
need_memory run-qemu "$host"
echo 2147483648 > "$host/sys/fs/cgroup/memory.max"
expect 2048 "$(memory "$host")"
expect_in "2048 MiB" "$(refused need_memory run-qemu "$host")"

need_processor x86_64
expect_in aarch64 "$(refused need_processor aarch64)"

expect stock "$(likely_targets run --runs=3)"
expect intree "$(likely_targets scenario --kernel=intree -- migrate)"
expect '' "$(likely_targets check --only=shell)"
expect '' "$(likely_targets bench-table)"

# From nothing: more than any disk has.
sed -i 's/^DISK_sources=.*/DISK_sources=999999999/' "$SCRIPTS/requirements.conf"
program curl <<< $'#!/bin/sh\n: > "$FOLDER/downloaded"'
program debootstrap <<< $'#!/bin/sh\n: > "$FOLDER/downloaded"'
export FOLDER
message=$(refused "$SCRIPTS/prepare.sh" for run)
expect_in "MiB free" "$message"
expect_in "XDG_CACHE_HOME=" "$message"
expect_in "MiB free" "$(refused "$SCRIPTS/prepare.sh" sources)"
gone "$FOLDER/downloaded"

#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# The pages of series: those that cannot be built fail, and the next series is tried. That sphinx is
# locked for a while is no fault of a page.
# shellcheck source=tools/testing/vm/hosts/_lib.sh
. "$(dirname "$0")/_lib.sh"
# shellcheck source=tools/testing/vm/common.sh
. "$SCRIPTS/common.sh"

# Of two series, with a page for each, and a kernel that can build the second one only.
mkdir -p "$CACHE/build" "$(sources_dir)/$INTREE_SOURCE"
cat > "$CACHE/build/patch-series" <<- 'END'
	#!/bin/bash
	# --top FOLDER tree SERIES --source FOLDER --out FOLDER
	mkdir -p "$8/Documentation/vfio-rust"
	echo text > "$8/Documentation/vfio-rust/$4.rst"
END
chmod +x "$CACHE/build/patch-series"
cat >> "$SCRIPTS/docs.sh" <<- 'END'
	docs_tree() { mkdir -p "$1/Documentation"; }
END
echo > "$SCRIPTS/sphinx.sh"
chmod +x "$SCRIPTS/sphinx.sh"
# -C TREE htmldocs SPHINXBUILD=PROGRAM BUILDDIR=HTML
program make <<- 'END'
	#!/bin/bash
	html=${5#BUILDDIR=}
	[ ! -e "$2"/Documentation/*/broken.rst ] || { echo "it is broken"; exit 1; }
	mkdir -p "$html/vfio-rust"
	touch "$html/vfio-rust/whole.html"
END

# try STATUS SERIES...: another process has sphinx until this one waits for it.
try() {
	local status=0
	exec 9<> "$CACHE/locks/sphinx"
	flock 9
	"$SCRIPTS/series-docs.sh" "${@:2}" > "$FOLDER/log" 2>&1 9>&- &
	for _ in {1..200}; do
		! grep -q "$WAITING" "$FOLDER/log" || break
		sleep 0.05
	done
	exec 9>&-
	wait $! || status=$?
	expect "$1" "$status"
}

try 0 whole
try 1 broken whole
expect_in "not ok broken: pages"$'\n'"it is broken" "$(cat "$FOLDER/log")"
expect $'whole\tdocs\tok\nbroken\tdocs\tfailed\nwhole\tdocs\tok' "$(cat "$SERIES_WORK/tips")"

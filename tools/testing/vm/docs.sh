# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Builds pages by the kernel's own htmldocs; to be sourced after common.sh.

kernel=$(sources_dir)/$INTREE_SOURCE

# docs_tree TREE OURS: a tree of links to the kernel's source, which is not to be written to, with
# the include, samples and tests of the folder OURS. Of the kernel's pages, it has the first index.
docs_tree() {
	local tree=$1 ours=$2
	rm -rf "$tree"
	mkdir -p "$tree"
	ln -s "$kernel"/* "$tree"
	rm "$tree/Documentation" "$tree/include" "$tree/samples" "$tree/tools"
	cp -rs "$kernel/include" "$tree"
	[ ! -e "$ours/include" ] || cp -r --remove-destination "$ours/include" "$tree"
	mkdir "$tree/samples"
	ln -s "$kernel"/samples/* "$tree/samples"
	[ ! -e "$ours/samples/vfio-rust" ] || ln -s "$ours/samples/vfio-rust" "$tree/samples"
	mkdir "$tree/tools"
	ln -s "$kernel"/tools/* "$tree/tools"
	rm "$tree/tools/testing"
	mkdir "$tree/tools/testing"
	# A page shows a table of ours.
	[ ! -e "$ours/tools/testing/vm" ] || ln -s "$ours/tools/testing/vm" "$tree/tools/testing"
	mkdir "$tree/Documentation"
	cp -r "$kernel"/Documentation/{Makefile,.renames.txt,conf.py,docutils.conf,index.rst} \
		"$kernel"/Documentation/{images,sphinx,sphinx-static} "$tree/Documentation"
}

# html_docs TREE HTML LOG
html_docs() {
	# That it waits is nothing about the pages.
	locked sphinx "$VM_DIR/sphinx.sh" >&2
	make -C "$1" htmldocs "SPHINXBUILD=$(sphinx_dir)/bin/sphinx-build" "BUILDDIR=$2" > "$3" 2>&1 || {
		tail -n 20 "$3"
		die "htmldocs has failed; its whole log is $(quoted "$3")"
	}
}

# warnings_of_docs LOG WORD...: what htmldocs has to say of files whose path has one of the words.
warnings_of_docs() {
	local log=$1 word
	shift
	for word; do
		grep "$word.*: \(WARNING\|ERROR\|CRITICAL\): " "$log" || true
	done
}

#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Builds our pages by the kernel's own htmldocs, as HTML to out/docs/html. It must have nothing
# to say about them. Runs in the sysroot.
#
#   check-docs.sh [--whole]
#
# Beside ours, there are only the indexes that lead to our pages, so that this takes
# seconds; --whole builds all pages of the kernel, too.
set -euo pipefail
# shellcheck source=tools/testing/vm/common.sh
. "$(dirname "$0")/common.sh"

# shellcheck source=tools/testing/vm/docs.sh
. "$VM_DIR/docs.sh"

docs=$PLAIN_TOP/out/docs
tree=$docs/tree
html=$docs/html
rm -rf "$docs"
docs_tree "$tree" "$PLAIN_TOP"
pages=$tree/Documentation
if [ "${1:-}" = --whole ]; then
	rm -r "$pages"
	cp -r "$kernel/Documentation" "$tree"
fi
# lay INDEX NEIGHBOUR: our folder into the table of contents of INDEX, as a patch of the
# kernel's tree would.
lay() {
	mkdir -p "$pages/$1"
	sed "s|^   $2\$|&\n   vfio-rust/index|" "$kernel/Documentation/$1/index.rst" \
		> "$pages/$1/index.rst"
	cp -r "$TOP/Documentation/$1/vfio-rust" "$pages/$1"
}
lay driver-api vfio
lay userspace-api iommufd
lay dev-tools ktap

# A page with two mistakes shows that mistakes are found.
bad=userspace-api/vfio-rust/with-mistakes
printf '%s\n' Mistakes ==== > "$pages/$bad.rst"

log=$OUT/log/htmldocs
html_docs "$tree" "$html" "$log"
found=$(grep -c "$bad.rst.*: WARNING: " "$log" || true)
[ "$found" = 2 ] || die "htmldocs has warned $found times of a page with 2 mistakes"
rm "$pages/$bad.rst" "$html/$bad.html"

# kernel-doc says all that it has to say only if it is asked to.
headers=$(cd "$TOP" && find include -name '*.h')
status=0
# shellcheck disable=SC2086 # a list of words
(cd "$TOP" && PYTHONDONTWRITEBYTECODE=1 python3 "$kernel/tools/docs/kernel-doc" \
	-none -Wall -Werror $headers) || status=1

# Ours are pages, and the headers that they take comments from.
# shellcheck disable=SC2086 # a list of words
! warnings_of_docs "$log" vfio-rust/ $headers | grep -v "$bad.rst" || status=1
while read -r page; do
	if [ ! -e "$html/${page%.rst}.html" ]; then
		echo "$page has not been built"
		status=1
	fi
done < <(cd "$TOP/Documentation" && find . -name '*.rst')

# A table for authors of drivers has each function of a C structure.
for structure in vfio_device_ops vfio_pci_device_ops vfio_migration_ops vfio_log_ops \
		pci_error_handlers pci_driver; do
	while read -r op; do
		if ! grep -q "^   \* - .*\`\`$op\`\`" "$TOP/Documentation/driver-api/vfio-rust/writing.rst"; then
			echo "writing.rst does not say who has $op of struct $structure"
			status=1
		fi
	done < <(sed -nE "/^struct $structure \{/,/^\};/s/.*\(\*([a-z_]+)\)\(.*/\1/p" \
		"$kernel"/include/linux/{vfio,vfio_pci_core,pci}.h)
done

# operators.rst explains each message of the kernel log.
while read -r message; do
	if ! grep -qF "\`\`$message\`\`" "$TOP/Documentation/userspace-api/vfio-rust/operators.rst"; then
		echo "operators.rst does not explain \"$message\""
		status=1
	fi
done < <(grep -rhoP --include='*.rs' '\bc"\K[^"]* [^"]*(?=")' "$TOP/drivers")

# It also explains what devlink says if the set-up of VFs fails.
while read -r message; do
	if ! grep -qF "\`\`$message\`\`" "$TOP/Documentation/userspace-api/vfio-rust/operators.rst"; then
		echo "operators.rst does not explain \"$message\" of devlink"
		status=1
	fi
done < <(
	for function in mlx5_devlink_port_fn_migratable_set mlx5_devlink_eswitch_mode_set \
			esw_offloads_start esw_offloads_stop; do
		sed -n "/^[a-z ]*int $function(/,/^}/p" \
			"$kernel/drivers/net/ethernet/mellanox/mlx5/core/eswitch_offloads.c"
	done | grep -oP '"\K[^"]+(?=")'
)

# A method that a page names, as Type::function(), is in an impl or a trait with that type in
# its first line.
methods=$(cd "$TOP" && find drivers samples tools -name '*.rs' -exec awk '
	/^(pub(\(.*\))? )?(unsafe )?(impl|trait)[ <]/ { of = $0 }
	/^}/ { of = "" }
	of && match($0, /^    ([a-z]|\(|\)|"C"| )*fn [a-z0-9_]+/) {
		name = substr($0, 1, RLENGTH)
		sub(/.* /, "", name)
		split(of, words, /[^A-Za-z0-9_]+/)
		for (i in words)
			print words[i] "::" name
	}' {} +)
while IFS=: read -r page method; do
	if ! grep -qFx "$method" <<< "$methods"; then
		echo "$page: there is no $method()"
		status=1
	fi
done < <(cd "$TOP" && grep -roP '\x60([a-z]\w*::)*\K[A-Z]\w*::\w+(?=\(\)\x60)' Documentation README.md)

# Domains and networks are valid for libvirt, as virt-xml-validate finds out; one with a mistake
# is not.
locked libvirt "$VM_DIR/libvirt.sh"
validate() {
	"$(libvirt_dir)/usr/bin/xmllint" --noout --nonet \
		--relaxng "$(libvirt_dir)/usr/share/libvirt/schemas/$1.rng" "$2" 2>&1
}
for xml in "$TOP"/Documentation/userspace-api/vfio-rust/*.xml; do
	root=$(sed -nE 's/^<(domain|network)[ >].*/\1/p' "$xml")
	validate "$root" "$xml" > "$log" || { cat "$log"; status=1; }
	sed 's/<driver model=/<driver modell=/' "$xml" > "$docs/mistake.xml"
	if validate "$root" "$docs/mistake.xml" > /dev/null; then
		echo "$xml has no driver, or its mistakes are not found"
		status=1
	fi
done

# A page that something of ours names is ours or the kernel's.
while IFS=: read -r file page; do
	if [ ! -e "$TOP/$page" ] && [ ! -e "$kernel/$page" ]; then
		echo "$file: there is no $page"
		status=1
	fi
done < <(cd "$TOP" && grep -roE --exclude-dir=.git --exclude-dir=out --exclude-dir=target \
	'Documentation/[a-zA-Z0-9_/-]+\.(rst|json|yaml)' .)
exit $status

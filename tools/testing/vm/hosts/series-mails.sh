#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# What the kernel's scripts say of mails: a script that fails is not one that has found nothing, and
# a list that gets each patch is no maintainer.
# shellcheck source=tools/testing/vm/hosts/_lib.sh
. "$(dirname "$0")/_lib.sh"
# shellcheck source=tools/testing/vm/common.sh
. "$SCRIPTS/common.sh"

# A series of four patches, of which the scripts say different things.
src=$(sources_dir)/$INTREE_SOURCE
mkdir -p "$src/scripts" "$CACHE/build"
cat > "$CACHE/build/patch-series" <<- 'END'
	#!/bin/bash
	# --top FOLDER list | write --source FOLDER --out FOLDER ...
	for name in clean unclean broken unknown; do
		number=$((number + 1))
		case $3 in
		list) printf 'one:%d\t%s\tvfio: Do it\t\n' $number $name ;;
		write) mkdir -p "$7/one" && echo $name > "$7/one/000$number-$name.patch" ;;
		esac
	done
END
chmod +x "$CACHE/build/patch-series"
cat > "$src/scripts/checkpatch.pl" <<- 'END'
	my $mail = $ARGV[-1];
	exit 2 if $mail =~ /broken/;
	exit 0 unless $mail =~ /unclean/;
	print "x:1: WARNING: bad\ntotal: 0 errors, 1 warnings, 2 checks, 3 lines checked\n";
	exit 1;
END
cat > "$src/scripts/get_maintainer.pl" <<- 'END'
	print "Jane Doe <jane\@example.org>\n" unless $ARGV[-1] =~ /unknown/;
	print "linux-kernel\@vger.kernel.org\n";
END
program git <<< '#!/bin/sh'

said=$(refused "$SCRIPTS/series-mails.sh" 'Jane Doe <jane@example.org>' one)
expect_in "one:2 (unclean)" "$said"
expect_in "one:3 (broken)" "$said"
expect $'one:1\t0\t0\t0\t1\none:2\t0\t1\t2\t1\none:3\tunknown\t1\none:4\t0\t0\t0\t0' \
	"$(cat "$SERIES_WORK/checks")"
expect $'jane@example.org\nlinux-kernel@vger.kernel.org' "$(cat "$SERIES_WORK/recipients/one")"

# SPDX-License-Identifier: GPL-2.0
#
# Makes KUnit tests of the examples in the documentation of Rust files, as rustdoc does of
# those of the kernel crate. A test is named after its file and the item it is about.
#
# An example is between "```" and "```". "```text" begins no example. Nothing else may follow the
# first "```": an example is always compiled, and run. Lines that begin with "# " are hidden from
# readers. If the last line ends in "(())", the example returns a Result.

function fail(what) {
	print FILENAME ":" FNR ": " what > "/dev/stderr"
	failed = 1
	exit 1
}

# PrecopyInfo becomes precopy_info.
function snake(name,    i, char, out) {
	for (i = 1; i <= length(name); i++) {
		char = substr(name, i, 1)
		if (char ~ /[A-Z]/ && i > 1 && substr(name, i - 1, 1) ~ /[a-z0-9]/)
			out = out "_"
		out = out tolower(char)
	}
	return out
}

# Prints the examples of the item NAME, or of the file if it has none.
function flush(name,    i, test) {
	for (i = 1; i <= count; i++) {
		test = stem (name ? "_" snake(name) : "") (i > 1 ? "_" i : "")
		print "\n    // " where[i]
		print "    #[test]"
		print "    fn " test "() " (last[i] ~ /\(\(\)\)$/ ? "-> kernel::error::Result " : "") "{"
		printf "%s", body[i]
		print "    }"
	}
	count = 0
}

BEGIN {
	print "// SPDX-License-Identifier: GPL-2.0\n"
	print "#[allow(unused)]"
	print "#[kernel::prelude::kunit_tests(vfio_rust_examples)]"
	print "mod examples {"
}

FNR == 1 {
	stem = FILENAME
	sub(/\.rs$/, "", stem)
	sub(/\/mod$/, "", stem)
	sub(/.*\//, "", stem)
}

/^[ \t]*\/\/[\/!]/ {
	inner = /^[ \t]*\/\/!/
	line = $0
	sub(/^[ \t]*\/\/[\/!] ?/, "", line)
	if (line ~ /^```/) {
		if (inside) {
			inside = 0
		} else if (line == "```") {
			inside = "example"
			count++
			where[count] = FILENAME ":" FNR
			body[count] = last[count] = ""
		} else if (line == "```text") {
			inside = "text"
		} else {
			fail("this must be an example, or text: " line)
		}
	} else if (inside == "example") {
		sub(/^# /, "", line)
		sub(/^#$/, "", line)
		body[count] = body[count] (line ? "        " line : "") "\n"
		if (line)
			last[count] = line
	}
	next
}

{
	if (inside)
		fail("an example has no end")
	if (inner)
		flush("")
	inner = 0
}

count && !/^[ \t]*(#\[|\/\/|$)/ {
	name = $0
	sub(/^[ \t]*(pub(\([a-z]+\))? +)?/, "", name)
	sub(/^((const|unsafe|struct|enum|trait|union|fn|type|static|mod|macro_rules!) +)*/, "", name)
	if (!match(name, /^[A-Za-z_][A-Za-z0-9_]*/))
		fail("what are the examples above about?")
	flush(substr(name, 1, RLENGTH))
}

END {
	if (failed)
		exit 1
	if (count)
		fail("the examples above are about nothing")
	print "}"
}

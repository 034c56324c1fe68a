// SPDX-License-Identifier: GPL-2.0

//! What names.sh says of variables and targets of make that are wrong, before anything is built.

use crate::names_tests::script;

/// Who signs off in these tests.
const AUTHOR: (&str, &str) = ("AUTHOR", "Jane Doe <jane@example.org>");

/// The variables of a target, and what must be in the error.
type Wrong<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);

#[test]
fn a_wrong_name_lists_the_right_ones() {
    let wrong: [Wrong<'_>; 30] = [
        ("check", &[("TEST", "nosuch")], "stock-migrate"),
        ("check", &[("TEST", "bare-migrate")], "stock-migrate"),
        ("check-all", &[("TEST", "nosuch")], "intree-qemu-suite"),
        ("check", &[("SEED", "x")], "SEED=x"),
        (
            "check",
            &[("GIVEN", "SEED TESTS"), ("SEED", "7")],
            "make check takes no TESTS=; it takes TEST=, SEED=",
        ),
        ("check", &[("GIVEN", "*")], "make check takes no *=;"),
        ("check", &[("TEST", "nosuch\n")], "more than one line"),
        (
            "bench",
            &[("GIVEN", "TEST"), ("GOALS", "bench run")],
            "make run takes no TEST=; it takes RUNS=",
        ),
        (
            "list",
            &[("GIVEN", "TEST")],
            "make list takes no TEST=; it takes no variable",
        ),
        (
            "modules",
            &[("GIVEN", "KDRI V")],
            "it takes KDIR=, ARCH=, C=",
        ),
        ("run", &[("RUNS", "0")], "RUNS=0"),
        ("campaign", &[("SLICE", "foo")], "intree-resets-chunks"),
        (
            "campaign",
            &[("SLICE", "x:1\nintree-resets:1")],
            "SLICE= has more than one line",
        ),
        ("bench", &[("BENCH", "nosuch")], "profile"),
        (
            "check-qemu-faults",
            &[("FAULT", "nosuch")],
            "page tracker in error",
        ),
        (
            "scenario",
            &[("KERNEL", "intree"), ("SCENARIO", "c-driver")],
            "FAULT= is missing",
        ),
        (
            "scenario",
            &[
                ("KERNEL", "intree"),
                ("SCENARIO", "c-driver"),
                ("FAULT", "late"),
            ],
            "late SAVE",
        ),
        (
            "scenario",
            &[
                ("KERNEL", "intree"),
                ("SCENARIO", "many"),
                ("FAULT", "late SAVE"),
            ],
            "SCENARIO=many takes no FAULT=",
        ),
        ("fuzz", &[], "commands"),
        ("fuzz", &[("FUZZ", "strea")], "stream"),
        ("fuzz", &[("FUZZ", "stream\n../x")], "more than one line"),
        (
            "fuzz",
            &[("FUZZ", "stream"), ("INPUT", "/nosuch")],
            "/nosuch",
        ),
        ("scenario", &[("SCENARIO", "many")], "bare"),
        ("scenario", &[("KERNEL", "stock")], "small-pages"),
        (
            "scenario",
            &[("KERNEL", "stock"), ("SCENARIO", "many")],
            "with KERNEL=stock",
        ),
        (
            "scenario",
            &[("KERNEL", "stock\nfoo"), ("SCENARIO", "migrate")],
            "KERNEL= has more than one line",
        ),
        (
            "scenario",
            &[("KERNEL", "stock"), ("SCENARIO", "nosuch\nmigrate")],
            "SCENARIO= has more than one line",
        ),
        ("series", &[AUTHOR, ("SERIES", "nosuch")], "selftests"),
        ("check-series", &[AUTHOR, ("SERIES", "vfio:1")], "rust"),
        (
            "series",
            &[("AUTHOR", "Jane\nDoe <jane@example.org>")],
            "in one line",
        ),
    ];
    for (target, variables, right) in wrong {
        let output = script(&["judge", target], variables);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{target} {variables:?}");
        assert!(said.contains(right), "{target} {variables:?}: {said}");
    }
}

#[test]
fn what_is_wrong_is_said_last_with_what_was_likely_meant() {
    let cases: [Wrong<'_>; 14] = [
        (
            "check",
            &[("TEST", "stock-migarte")],
            "no name has TEST=stock-migarte in it; did you mean stock-migrate?",
        ),
        (
            "check",
            &[("TEST", "STOCK-SETUP")],
            "no name has TEST=STOCK-SETUP in it; did you mean stock-setup?",
        ),
        (
            "series",
            &[AUTHOR, ("SERIES", "FIXES")],
            "no name has SERIES=FIXES in it; did you mean fixes?",
        ),
        (
            "campaign",
            &[("SLICE", "intree-reset:1")],
            "a campaign has no machine SLICE=intree-reset:1; did you mean intree-resets?",
        ),
        (
            "campaign",
            &[("SLICE", "intree-resets")],
            "SLICE=intree-resets is not MACHINE:SEED, as a campaign prints it; \
             did you mean intree-resets?",
        ),
        // A part of many names is near, but none of these is.
        (
            "check",
            &[("TEST", "stock-*")],
            "no name has TEST=stock-* in it, which is no pattern",
        ),
        ("check", &[("TEST", "TOCK")], "no name has TEST=TOCK in it"),
        // Short words are in many names.
        (
            "check-qemu-faults",
            &[("FAULT", "foo")],
            "no name has FAULT=foo in it",
        ),
        // Nothing is near.
        (
            "check",
            &[("TEST", "nosuch")],
            "no name has TEST=nosuch in it",
        ),
        (
            "check",
            &[("TEST", "\\t*")],
            "no name has TEST=\\t* in it, which is no pattern",
        ),
        (
            "fuzz",
            &[("FUZZ", "strea")],
            "there is no FUZZ=strea; did you mean stream?",
        ),
        (
            "scenario",
            &[("KERNEL", "intree"), ("SCENARIO", "c-drvier")],
            "there is no SCENARIO=c-drvier with KERNEL=intree; did you mean c-driver?",
        ),
        (
            "bench",
            &[("BENCH", "nosuch")],
            "no name has BENCH=nosuch in it",
        ),
        ("scenario", &[("KERNEL", "intree")], "SCENARIO= is missing"),
    ];
    for (target, variables, last) in cases {
        let output = script(&["judge", target], variables);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{target} {variables:?}");
        assert_eq!(said.lines().last(), Some(last), "{said}");
        assert_eq!(said.matches(last).count(), 1, "{said}");
    }
}

#[test]
fn a_value_that_make_is_given_is_not_empty() {
    for (target, variable) in [
        ("check", "TEST"),
        ("bench", "BENCH"),
        ("run", "RUNS"),
        ("check-qemu-faults", "FAULT"),
        ("campaign", "PART"),
        ("mutants", "MUTANT"),
        ("fuzz", "INPUT"),
        ("series", "SERIES"),
        ("series", "AUTHOR"),
        ("modules", "KDIR"),
        ("install", "PREFIX"),
    ] {
        // A target after this one takes it.
        for goals in [target.to_string(), format!("list {target}")] {
            for value in ["", " ", "\t\n"] {
                let first = goals.split(' ').next().unwrap();
                let given = [(variable, value), ("GIVEN", variable), ("GOALS", &goals)];
                let output = script(&["judge", first], &given);
                let said = String::from_utf8(output.stderr).unwrap();
                assert_eq!(output.status.code(), Some(1), "{target} {variable}");
                let right = format!("{variable}= is empty: give it a value, or leave it out\n");
                assert_eq!(said, right, "{target} {value:?}");
            }
        }
    }
    // In the environment it is none, and to kbuild and packagers it has a meaning.
    for (target, variable, given) in [
        ("check", "TEST", ""),
        ("install", "DESTDIR", "DESTDIR"),
        ("modules", "LOCALVERSION", "LOCALVERSION"),
    ] {
        let output = script(&["judge", target], &[(variable, ""), ("GIVEN", given)]);
        assert!(output.status.success(), "{target}: {output:?}");
    }
}

#[test]
fn a_wrong_target_is_told_with_the_right_one() {
    for (goals, says) in [
        ("chek", "there is no target chek; did you mean check?\n"),
        (
            "tools benhc",
            "there is no target benhc; did you mean bench?\n",
        ),
        ("nosuch", "there is no target nosuch\n"),
        (
            "a;$(b) *",
            "there is no target a;$(b)\nthere is no target *\n",
        ),
    ] {
        let output = script(&["no-target"], &[("GOALS", goals)]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{goals}");
        assert_eq!(said, format!("{says}make without a target shows all\n"));
    }
}

#[test]
fn a_right_name_is_taken() {
    let right: [(&str, &[(&str, &str)]); 13] = [
        (
            "check",
            &[
                ("GIVEN", "TEST RUNS VFIO_MLX5_RUST_CACHE"),
                ("TEST", "shell"),
                ("RUNS", "1"),
                ("GOALS", "bench check"),
            ],
        ),
        ("check", &[]),
        ("series", &[AUTHOR]),
        ("check-series", &[AUTHOR, ("SERIES", "mlx5")]),
        (
            "install",
            &[("GIVEN", "PREFIX DESTDIR"), ("PREFIX", "/usr")],
        ),
        (
            "modules_install",
            &[("GIVEN", "KDIR INSTALL_MOD_PATH"), ("KDIR", "/k")],
        ),
        ("check", &[("TEST", "shell"), ("SEED", "7")]),
        ("check-all", &[("TEST", "bare-migrate")]),
        ("bench", &[("BENCH", "paths"), ("RUNS", "10")]),
        ("campaign", &[("SLICE", "intree-resets-chunks:0")]),
        ("check-qemu-faults", &[("FAULT", "page tracker's")]),
        ("scenario", &[("KERNEL", "intree"), ("SCENARIO", "many")]),
        (
            "scenario",
            &[
                ("KERNEL", "intree"),
                ("SCENARIO", "c-driver"),
                ("FAULT", "late SAVE"),
            ],
        ),
    ];
    for (target, variables) in right {
        let output = script(&["judge", target], variables);
        assert!(
            output.status.success(),
            "{target} {variables:?}: {output:?}"
        );
    }
}

#[test]
fn an_author_is_as_mails_have_it() {
    let author = |author: &str| {
        // What git knows of who runs this does not count.
        let no_git = [("GIT_DIR", "/nosuch"), ("HOME", "/nosuch")];
        let none = [
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
        ];
        let variables = [&no_git[..], &none, &[("AUTHOR", author)]].concat();
        let output = script(&["author"], &variables);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        match output.status.success() {
            true => Ok(text(output.stdout)),
            false => Err(text(output.stderr)),
        }
    };
    for good in [
        "Jane Doe <jane@example.org>",
        "J. R. O'Doe, Jr. (X) <j@x>",
        "J\u{f6}ran <j@x>",
        "\u{674e} <j@x>",
    ] {
        assert_eq!(author(good), Ok(format!("{good}\n")));
    }
    for bad in [
        "Jane",
        "jane@example.org",
        "Jane <jane>",
        "Jane <j@x> ",
        " Jane <j@x>",
        "Jane  Doe <j@x>",
        "Doe, <j@x>",
        ". <j@x>",
        "  <j@x>",
        "Jane\nDoe <j@x>",
        "Jane \"J\" Doe <j@x>",
        "Jane\\Doe <j@x>",
        "Jane <Doe> <j@x>",
        "Jane <j x@x>",
    ] {
        let said = author(bad).unwrap_err();
        assert!(said.contains("is not 'NAME <ADDRESS>'"), "{bad:?}: {said}");
    }
    assert!(author("")
        .unwrap_err()
        .contains("git config user.name NAME"));
}

// SPDX-License-Identifier: GPL-2.0

//! names.sh reads the tables without a compiler: it must find just what is in them.
//! completion.sh offers what names.sh finds.

use crate::{
    bench,
    campaign,
    check::{
        self,
        Extent, //
    },
    mutants, //
};
use mlx5_rust_fuzz::TARGETS;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{
        Command,
        Output, //
    },
};
use vm_common::{
    c_driver,
    faults,
    kernel::Kernel,
    scenarios, //
};

fn script(args: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/names.sh"));
    for name in [
        "TEST", "KERNEL", "SCENARIO", "BENCH", "PART", "MUTANT", "HOURS", "SLICE", "FAULT", "FUZZ",
        "SEED", "RUNS", "INPUT", "AUTHOR", "SERIES", "GOALS", "GIVEN",
    ] {
        command.env_remove(name);
    }
    command
        .args(args)
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

fn names(variable: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let output = script(&[variable], variables);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_string).collect()
}

#[test]
fn the_script_finds_all_names() {
    let kernels = Kernel::ALL.map(Kernel::name);
    assert_eq!(names("KERNEL", &[]), kernels);
    for kernel in Kernel::ALL {
        let with = scenarios::ALL.iter().filter(|one| one.runs_with(kernel));
        let with: Vec<&str> = with.map(|one| one.name).collect();
        assert_eq!(names("SCENARIO", &[("KERNEL", kernel.name())]), with);
    }
    let benchmarks: Vec<&str> = bench::ALL.iter().map(|one| one.name).collect();
    assert_eq!(names("BENCH", &[]), benchmarks);
    let parts = campaign::wanted(None).unwrap();
    let parts: Vec<&str> = parts.iter().map(|one| one.name).collect();
    assert_eq!(names("PART", &[]), parts);
    assert_eq!(
        names("MUTANT", &[]),
        mutants::names(Path::new(TOP)).unwrap()
    );
    let faults: Vec<&str> = faults::ALL.iter().map(|one| one.name).collect();
    assert_eq!(names("FAULT", &[]), faults);
    for scenario in scenarios::ALL.iter().map(|one| one.name) {
        let of_scenario = c_driver::ALL.iter().filter(|one| one.scenario == scenario);
        let of_scenario: Vec<&str> = of_scenario.map(|one| one.name).collect();
        let found = names("FAULT", &[("TARGET", "scenario"), ("SCENARIO", scenario)]);
        assert_eq!(found, of_scenario, "{scenario}");
    }
    let all: Vec<&str> = c_driver::ALL.iter().map(|one| one.name).collect();
    assert_eq!(names("FAULT", &[("TARGET", "scenario")]), all);
    let targets: Vec<&str> = TARGETS.iter().map(|one| one.name).collect();
    assert_eq!(names("FUZZ", &[]), targets);
    for (extent, target) in [(Extent::Usual, "check"), (Extent::All, "check-all")] {
        let [mut found, mut groups] = [names("TEST", &[("TARGET", target)]), check::groups(extent)];
        found.sort();
        groups.sort();
        assert_eq!(found, groups, "{target}");
    }
}

#[test]
fn the_script_finds_the_whole_table() {
    let table: Vec<String> = scenarios::ALL
        .iter()
        .map(|one| {
            let kernels: Vec<_> = one.kernels.iter().map(|one| one.name()).collect();
            let kernels = kernels.join(" ");
            let target = one.suite.name();
            format!(
                "{}\t{kernels}\t{target}\t{}\t{}",
                one.name, one.seconds, one.about
            )
        })
        .collect();
    assert_eq!(names("table", &[]), table);
    assert_eq!(names("list", &[]).len(), table.len() + 1);
}

/// Who signs off in these tests.
const AUTHOR: (&str, &str) = ("AUTHOR", "Jane Doe <jane@example.org>");

/// The variables of a target, and what must be in the error.
type Wrong<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);

#[test]
fn a_wrong_name_lists_the_right_ones() {
    let wrong: [Wrong<'_>; 28] = [
        ("check", &[("TEST", "nosuch")], "stock-migrate"),
        ("check", &[("TEST", "bare-migrate")], "stock-migrate"),
        ("check-all", &[("TEST", "nosuch")], "intree-qemu-suite"),
        ("check", &[("SEED", "x")], "SEED=x"),
        (
            "check",
            &[("GIVEN", "SEED TESTS")],
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
    let cases: [Wrong<'_>; 7] = [
        (
            "check",
            &[("TEST", "stock-migarte")],
            "no name has TEST=stock-migarte in it; did you mean stock-migrate?",
        ),
        // Nothing is near, but the list is long.
        (
            "check",
            &[("TEST", "nosuch")],
            "no name has TEST=nosuch in it",
        ),
        ("check", &[("TEST", "\\t*")], "no name has TEST=\\t* in it"),
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
        ("bench", &[("BENCH", "nosuch")], "    net"),
        ("scenario", &[("KERNEL", "intree")], "SCENARIO= is missing"),
    ];
    for (target, variables, last) in cases {
        let output = script(&["judge", target], variables);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{target} {variables:?}");
        assert_eq!(said.lines().last(), Some(last), "{said}");
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
    let right: [(&str, &[(&str, &str)]); 12] = [
        (
            "check",
            &[
                ("GIVEN", "TEST RUNS VFIO_MLX5_RUST_CACHE"),
                ("GOALS", "bench check"),
            ],
        ),
        ("check", &[]),
        ("series", &[AUTHOR]),
        ("check-series", &[AUTHOR, ("SERIES", "mlx5")]),
        ("install", &[("GIVEN", "PREFIX DESTDIR")]),
        ("modules_install", &[("GIVEN", "KDIR INSTALL_MOD_PATH")]),
        ("check", &[("TEST", "shell"), ("SEED", "7")]),
        ("check-all", &[("TEST", "bare-migrate")]),
        ("bench", &[("BENCH", "paths"), ("RUNS", "10")]),
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

const TOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../..");

/// What bash completes these words to in a folder. The last of them is being typed.
fn completed(folder: &Path, words: &[&str]) -> Vec<String> {
    let text = r#"
        . "$0"
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
        _vfio_rust_make
        printf '%s\n' "${COMPREPLY[@]}""#;
    let output = Command::new("bash")
        .args(["-euc", text])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/completion.sh"))
        .args(words)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.stderr.is_empty(), "{words:?}: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_string).collect()
}

#[test]
fn bash_completes_targets_variables_and_names() {
    let cases: [(&[&str], &[&str]); 13] = [
        (&["make", "sc"], &["scenario"]),
        (&["make", "-j", "4", "sc"], &["scenario"]),
        (&["make", "-j", "4", "bench", "BE"], &["BENCH="]),
        (&["make", "FUZZ", "=", "strea"], &["stream"]),
        (&["make", "table", "="], &[""]),
        (&["make", "list", "=", "m"], &[""]),
        (
            &["make", "scenario", ""],
            &["KERNEL=", "SCENARIO=", "FAULT=", "SEED="],
        ),
        (
            &["make", "scenario", "KERNEL", "="],
            &["stock", "intree", "bare", "builtin", "debug", "fixed"],
        ),
        (
            &["make", "scenario", "KERNEL", "=", "stock", "SC"],
            &["SCENARIO="],
        ),
        (
            &[
                "make", "scenario", "KERNEL", "=", "bare", "SCENARIO", "=", "ra",
            ],
            &["random", "random-chunks"],
        ),
        (
            &["make", "check", "TEST", "=", "shell\\ "],
            &["shell\\ scripts"],
        ),
        (&["make", "check", "TEST", "=", "bare-mi"], &[""]),
        (
            &["make", "check-all", "TEST", "=", "bare-mi"],
            &["bare-migrate"],
        ),
    ];
    for (words, replies) in cases {
        assert_eq!(completed(Path::new(TOP), words), replies, "{words:?}");
    }
}

#[test]
fn bash_runs_no_script_of_another_checkout() {
    let name = format!("vm-test-checkout-{}", std::process::id());
    let other = std::env::temp_dir().join(name);
    let folder = other.join("tools/testing/vm");
    fs::create_dir_all(&folder).unwrap();
    let script = folder.join("names.sh");
    fs::write(&script, "#!/bin/sh\n: > ran; echo stock\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let words = ["make", "scenario", "KERNEL", "=", "st"];
    assert_eq!(completed(&other, &words), [""]);
    assert!(!other.join("ran").exists());
    assert_eq!(completed(Path::new(TOP), &words), ["stock"]);
    fs::remove_dir_all(other).unwrap();
}

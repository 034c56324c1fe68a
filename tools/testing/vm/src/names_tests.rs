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

/// What names.sh says, with these variables and no others.
pub fn script(args: &[&str], variables: &[(&str, &str)]) -> Output {
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
    let machines = Kernel::ALL.iter().flat_map(|kernel| {
        let groups = scenarios::ALL.iter().map(|one| one.group(*kernel));
        groups.filter(|group| format!("{group}:1").parse::<campaign::Slice>().is_ok())
    });
    assert_eq!(names("SLICE", &[]), machines.collect::<Vec<_>>());
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

// SPDX-License-Identifier: GPL-2.0

//! A shell completes whatever `--help` shows.

use std::{
    fs,
    path::Path,
    process::Command, //
};

fn output(args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vfio-mig"));
    let output = command.args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The first words of the indented lines that follow a heading.
fn first_words(help: &str, heading: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != heading).skip(1);
    lines
        .take_while(|line| line.is_empty() || line.starts_with(' '))
        .filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next())
        .map(str::to_string)
        .collect()
}

/// The long options that a help text has, without those of its examples.
fn options(help: &str) -> Vec<String> {
    let help = help.split("\nExamples:").next().unwrap();
    let words = help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    let long = words.filter(|word| word.strip_prefix("--").is_some_and(|name| !name.is_empty()));
    long.map(str::to_string).collect()
}

/// What bash replaces the end of a line with, as its documentation has it: words are broken
/// at each of `$COMP_WORDBREAKS`.
fn offered(script: &str, line: &str) -> Vec<String> {
    offered_in(Path::new("/"), script, line)
}

/// As [`offered`], in a folder.
fn offered_in(dir: &Path, script: &str, line: &str) -> Vec<String> {
    // The script names a function for it.
    let text = r#"eval "$1"; COMP_LINE=$2 COMP_POINT=${#2} COMP_WORDBREAKS=$' \t\n=:'
        [[ $(complete -p vfio-mig) =~ -F\ ([^ ]+) ]]
        spaced=${2//:/ : }; spaced=${spaced//=/ = }
        COMP_WORDS=($spaced)
        [[ $2 == *' ' ]] && COMP_WORDS+=('')
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        "${BASH_REMATCH[1]}" "$3" "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
        printf '%s\n' "${COMPREPLY[@]}""#;
    let mut command = Command::new("bash");
    command.args(["-c", text, "bash", script, line]);
    let output = command
        .arg(env!("CARGO_BIN_EXE_vfio-mig"))
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(output.stderr.is_empty(), "{output:?}");
    let words = String::from_utf8(output.stdout).unwrap();
    words.lines().map(str::to_string).collect()
}

#[test]
fn bash_completes_all_commands_and_options() {
    let script = output(&["completions", "bash"]);
    let help = output(&["--help"]);
    let commands = first_words(&help, "Commands:");
    assert!(commands.contains(&"migrate".to_string()), "{commands:?}");
    let words = offered(&script, "vfio-mig ");
    for name in commands.iter().chain(&options(&help)) {
        assert!(words.contains(name), "{name}: {words:?}");
    }
    for command in commands.iter().filter(|name| *name != "help") {
        let words = offered(&script, &format!("vfio-mig {command} --"));
        let options = options(&output(&[command, "--help"]));
        assert!(options.contains(&"--json".to_string()), "{options:?}");
        for option in options {
            assert!(words.contains(&option), "{command} {option}: {words:?}");
        }
    }
}

#[test]
fn bash_completes_values() {
    let script = output(&["completions", "bash"]);
    for (line, right) in [
        ("state 01:00.4 PRE_", &["PRE_COPY", "PRE_COPY_P2P"][..]),
        ("state 01:00.4 STOP RESU", &["RESUMING"]),
        (
            "test 0000:01:00.4 --only feature.stop_c",
            &["feature.stop_copy"],
        ),
        ("test --only=feature.stop_c", &["feature.stop_copy"]),
        ("--json state 01:00.4 RUNNING_", &["RUNNING_P2P"]),
        ("migrate 01:00.4 tc", &["tcp:"]),
        ("migrate 01:00.4 01:00.5 --precopy-info b", &["both"]),
        ("completions z", &["zsh"]),
        // Bash replaces what follows the colon.
        ("migrate 01:00.4 file:/dev/nul", &["/dev/null"]),
        ("save 01:00.4 /dev/nul", &["/dev/null"]),
    ] {
        assert_eq!(
            offered(&script, &format!("vfio-mig {line}")),
            right,
            "{line}"
        );
    }
}

#[test]
fn bash_completes_names_of_files() {
    let script = output(&["completions", "bash"]);
    let dir = std::env::temp_dir().join(format!("vfio-mig-names-{}", std::process::id()));
    fs::create_dir_all(dir.join("sub")).unwrap();
    for name in ["sub/a state", "sub/b*", "sub/c", "sub/d$x"] {
        fs::write(dir.join(name), "").unwrap();
    }
    for (line, right) in [
        // Also without a folder before it.
        ("load 01:00.4 su", &["sub/"][..]),
        ("load 01:00.4 sub/a", &[r"sub/a\ state"]),
        ("doctor --compare=sub/c", &["sub/c"]),
        ("migrate 01:00.4 file:sub/c", &["sub/c"]),
        // It is no pattern, which would be that of two names.
        ("load 01:00.4 sub/b", &[r"sub/b\*"]),
        ("load 01:00.4 sub/d", &[r"sub/d\$x"]),
        // What was begun with a quote goes on with it.
        ("load 01:00.4 \"sub/a", &["sub/a state"]),
    ] {
        let words = offered_in(&dir, &script, &format!("vfio-mig {line}"));
        assert_eq!(words, right, "{line}");
    }
    fs::write(dir.join("sub/bc"), "").unwrap();
    let words = offered_in(&dir, &script, "vfio-mig load 01:00.4 sub/b");
    assert_eq!(words, [r"sub/b\*", "sub/bc"]);
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn other_shells_ask_the_tool() {
    for (shell, index) in [("fish", None), ("zsh", Some("4")), ("elvish", Some("4"))] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vfio-mig"));
        command.env("VFIO_MIG_COMPLETE", shell);
        command.envs(index.map(|index| ("_CLAP_COMPLETE_INDEX", index)));
        command.args(["--", "vfio-mig", "state", "01:00.4", "STOP", "RESU"]);
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text.trim_end(), "RESUMING", "{shell}");
    }
}

// SPDX-License-Identifier: GPL-2.0

//! A shell completes whatever `--help` shows.

use std::process::Command;

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

/// The long options that a help text has.
fn options(help: &str) -> Vec<String> {
    let words = help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    let long = words.filter(|word| word.strip_prefix("--").is_some_and(|name| !name.is_empty()));
    long.map(str::to_string).collect()
}

/// The words that bash offers after others, for one that begins with `word`.
fn offered(script: &str, others: &[&str], word: &str) -> Vec<String> {
    // The script names a function for it.
    let text = r#"eval "$1"; shift; set -- vfio-mig "$@"
        [[ $(complete -p vfio-mig) =~ -F\ ([^ ]+) ]]
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        "${BASH_REMATCH[1]}" vfio-mig "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
        printf '%s\n' "${COMPREPLY[@]}""#;
    let mut command = Command::new("bash");
    command.args(["-c", text, "bash", script]);
    let output = command.args(others).arg(word).output().unwrap();
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
    let words = offered(&script, &[], "");
    for name in commands.iter().chain(&options(&help)) {
        assert!(words.contains(name), "{name}: {words:?}");
    }
    for command in commands.iter().filter(|name| *name != "help") {
        let words = offered(&script, &[command], "--");
        let options = options(&output(&[command, "--help"]));
        assert!(options.contains(&"--json".to_string()), "{options:?}");
        for option in options {
            assert!(words.contains(&option), "{command} {option}: {words:?}");
        }
    }
}

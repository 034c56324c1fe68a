// SPDX-License-Identifier: GPL-2.0

//! QEMU's monitor, on its standard input and output: what processors and interrupt
//! controllers of a machine that hangs are at. Such a machine has logged nothing of it.

use anyhow::{
    Context,
    Result, //
};
use serde_json::{
    json,
    Value, //
};
use std::{
    fmt::Write as _,
    fs::{
        self,
        File, //
    },
    io::Write,
    path::{
        Path,
        PathBuf, //
    },
    process::{
        Child,
        Command,
        Stdio, //
    },
    thread,
    time::{
        Duration,
        Instant, //
    },
};

/// What QEMU answers, in the machine's folder.
const ANSWERS: &str = "monitor.json";
/// The same as a text, of a machine that hung.
const STATE: &str = "state.log";
/// QEMU's arguments.
const ARGUMENTS: [&str; 4] = [
    "-chardev",
    "stdio,id=monitor,signal=off",
    "-mon",
    "chardev=monitor,mode=control",
];
/// What is asked. The processors are asked twice: do they stand still?
const QUESTIONS: [&str; 6] = [
    "info status",
    "info registers -a",
    "info lapic",
    "info pic",
    "info irq",
    "info registers -a",
];
/// How long QEMU may take to answer: never, if its main loop is what hangs.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(100);

/// Gives a QEMU that is not started yet a monitor.
pub fn add<'a>(qemu: &'a mut Command, dir: &Path) -> Result<&'a mut Command> {
    let answers = File::create(dir.join(ANSWERS))?;
    Ok(qemu.args(ARGUMENTS).stdin(Stdio::piped()).stdout(answers))
}

/// The text of each answer.
fn texts(answers: &str) -> Vec<String> {
    let lines = answers
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let texts = lines.filter_map(|line| Some(line.get("return")?.as_str()?.replace('\r', "")));
    texts.collect()
}

/// Questions, with their answers as far as there are any.
fn together(answers: &[String]) -> String {
    let mut text = String::new();
    for (i, question) in QUESTIONS.iter().enumerate() {
        let answer = answers
            .get(i)
            .map_or("no answer", |answer| answer.trim_end());
        let _ = writeln!(text, "# {question}\n{answer}\n");
    }
    text
}

/// Asks QEMU what its machine is at, and writes it down. Returns where that is.
pub fn ask(qemu: &mut Child, dir: &Path) -> Result<PathBuf> {
    ask_for(qemu, dir, PATIENCE)
}

/// Does what [`ask`] does, and waits for `patience` at most.
fn ask_for(qemu: &mut Child, dir: &Path, patience: Duration) -> Result<PathBuf> {
    let mut input = qemu.stdin.take().context("QEMU has no monitor")?;
    writeln!(input, "{}", json!({ "execute": "qmp_capabilities" }))?;
    for question in QUESTIONS {
        let command = json!({
            "execute": "human-monitor-command",
            "arguments": { "command-line": question },
        });
        writeln!(input, "{command}")?;
    }
    let end = Instant::now() + patience;
    let answers = loop {
        let answers = texts(&fs::read_to_string(dir.join(ANSWERS))?);
        if answers.len() >= QUESTIONS.len() || Instant::now() > end {
            break answers;
        }
        thread::sleep(POLL);
    };
    let state = dir.join(STATE);
    fs::write(&state, together(&answers))?;
    Ok(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_from_greetings_and_events() {
        let answers = "{\"QMP\": {\"version\": {}}}\n{\"return\": {}}\n\
                       {\"return\": \"VM status: running\\r\\n\"}\n{\"event\": \"STOP\"}\n{\"ret";
        let texts = texts(answers);
        assert_eq!(texts, ["VM status: running\n"]);
        let text = together(&texts);
        let begin = "# info status\nVM status: running\n\n# info registers -a\nno answer\n";
        assert!(text.starts_with(begin), "{text}");
    }

    /// What is written down of a program in the place of QEMU, which is a script.
    fn state_of(name: &str, script: &str, patience: Duration) -> String {
        let dir = std::env::temp_dir().join(format!("vm-test-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", script]);
        let mut qemu = add(&mut shell, &dir).unwrap().spawn().unwrap();
        let state = ask_for(&mut qemu, &dir, patience).unwrap();
        qemu.kill().unwrap();
        qemu.wait().unwrap();
        let text = fs::read_to_string(state).unwrap();
        fs::remove_dir_all(&dir).unwrap();
        text
    }

    #[test]
    fn what_a_machine_is_at_is_written_down() {
        let script = r#"read greeting; while read question; do echo '{"return": "it is"}'; done"#;
        let text = state_of("answers", script, PATIENCE);
        assert_eq!(text.matches("\nit is\n").count(), QUESTIONS.len(), "{text}");
    }

    #[test]
    fn a_machine_that_does_not_answer_is_given_up() {
        let text = state_of("silent", "exec sleep 60", Duration::from_millis(300));
        assert_eq!(
            text.matches("\nno answer\n").count(),
            QUESTIONS.len(),
            "{text}"
        );
    }
}

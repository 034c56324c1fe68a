// SPDX-License-Identifier: GPL-2.0

//! Fuzzing: runs the targets of `tools/testing/fuzz`, and says what they find.
//!
//! Inputs that get to more of the code are kept in the cache, and the next run begins with
//! them. So are those that have broken something, which each run tries again first. libFuzzer
//! adds files, one by one: a run that is interrupted leaves at worst half a file, which is an
//! input as good as any.

use crate::{
    children,
    paths::Paths,
    report::path_word,
    tap::Test, //
};
use anyhow::{
    bail,
    ensure,
    Context,
    Result, //
};
use mlx5_rust_fuzz::{
    find,
    Target,
    TARGETS,
    VARIABLE, //
};
use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::{
        Path,
        PathBuf, //
    },
    process::{
        Command,
        ExitStatus,
        Stdio, //
    },
};

/// Seconds for one input, of which a usual one takes less than one thousandth. Only an input
/// that has no end takes as long.
const TIMEOUT: u32 = 60;
/// Most bytes of an input.
const MAX_LEN: u32 = 1024;
/// Without counters libFuzzer runs inputs all the same, and ends well.
const UNCOUNTED: &str = "nothing is counted: how was it built?";
/// Lines that are shown of what a target has said.
const LINES: usize = 6;

/// Returns the target with a name.
pub fn named(name: &str) -> Result<&'static Target> {
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    find(name).with_context(|| {
        format!(
            "there is no target {name:?} to be fuzzed; there are\n    {}",
            names.join("\n    ")
        )
    })
}

/// What libFuzzer has counted.
#[derive(PartialEq, Eq, Debug)]
struct Counts {
    /// Places in the program that are counted.
    counters: u64,
    /// Those of them that were got to.
    covered: u64,
    /// Inputs that were run.
    runs: u64,
}

impl Counts {
    /// Takes the output of a run apart. `None` if it has not come to its end, or nothing is
    /// counted.
    fn parse(text: &str) -> Option<Self> {
        let number = |line: &str| {
            let digits = |c: char| !c.is_ascii_digit();
            line.split(digits)
                .find(|word| !word.is_empty())?
                .parse()
                .ok()
        };
        let after = |start: &str, mark: &str| {
            let mut lines = text.lines().filter(|line| line.contains(start));
            number(lines.next_back()?.split_once(mark)?.1)
        };
        Some(Self {
            counters: after("INFO: Loaded", "(")?,
            covered: after("DONE", "cov: ")?,
            runs: after("stat::number_of_executed_units:", "units:")?,
        })
    }

    /// Returns what is wrong with a run in which nothing was found.
    fn fault(&self) -> Option<&'static str> {
        match self {
            Self { runs: 0, .. } => Some("no input was run"),
            Self { counters: 0, .. } => Some(UNCOUNTED),
            Self { covered: 0, .. } => Some("no input got to what is counted"),
            _ => None,
        }
    }
}

/// Returns the command that runs just one input again.
fn again(target: &Target, input: &Path) -> String {
    let input = path_word(input);
    format!("make fuzz FUZZ={} INPUT={input}", target.name)
}

/// Says what an input is, and how to have it again.
fn describe(target: &Target, input: &Path) -> Vec<String> {
    let bytes = fs::read(input).unwrap_or_default();
    vec![
        format!("input: {}, {} bytes:", path_word(input), bytes.len()),
        format!("b\"{}\"", bytes.escape_ascii()),
        format!("just this input again: {}", again(target, input)),
    ]
}

/// The lines that say what is wrong: those of the panic, or else the last ones.
fn complaint(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let is_start =
        |line: &&str| line.contains(" panicked at ") || line.contains("ERROR: libFuzzer");
    let from = lines.iter().position(is_start);
    let from = from.unwrap_or(lines.len().saturating_sub(LINES));
    let lines = lines[from..].iter().take(LINES);
    lines.map(|line| (*line).to_string()).collect()
}

/// The file that libFuzzer has written with the input that breaks something.
fn written(text: &str) -> Option<&Path> {
    let mark = "Test unit written to ";
    let line = text.lines().find(|line| line.contains(mark))?;
    Some(Path::new(line.split_once(mark)?.1.trim_end()))
}

/// All files of a folder, in the order of their names.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut files = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}

/// A target, and where its files are.
pub struct Fuzz<'a> {
    paths: &'a Paths,
    target: &'static Target,
    /// Inputs that get to more of the code.
    corpus: PathBuf,
    /// Inputs that have broken something.
    found: PathBuf,
    /// Inputs to begin with.
    seeds: PathBuf,
    /// What libFuzzer says.
    log: PathBuf,
}

impl<'a> Fuzz<'a> {
    /// Makes the folders, and writes the inputs to begin with.
    pub fn new(paths: &'a Paths, target: &'static Target) -> Result<Self> {
        let kept = paths.fuzz.join(target.name);
        let out = paths.out().join("fuzz").join(target.name);
        let fuzz = Self {
            paths,
            target,
            corpus: kept.join("corpus"),
            found: kept.join("found"),
            seeds: out.join("seeds"),
            log: out.join("log"),
        };
        if fuzz.seeds.exists() {
            fs::remove_dir_all(&fuzz.seeds)?;
        }
        for folder in [&fuzz.corpus, &fuzz.found, &fuzz.seeds] {
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        for (name, bytes) in (target.seeds)() {
            fs::write(fuzz.seeds.join(name), bytes)?;
        }
        Ok(fuzz)
    }

    /// libFuzzer, for this target.
    fn command(&self) -> Command {
        let mut command = Command::new(self.paths.build.join("fuzz"));
        children::bind(&mut command)
            .env(VARIABLE, self.target.name)
            .current_dir(&self.paths.top)
            .stdin(Stdio::null())
            .arg(format!("-timeout={TIMEOUT}"));
        command
    }

    /// libFuzzer, which goes on until something is found.
    fn search(&self) -> Command {
        let mut command = self.command();
        command
            .arg(format!("-max_len={MAX_LEN}"))
            .arg(format!("-artifact_prefix={}/", self.found.display()))
            .arg("-print_final_stats=1")
            .args([&self.corpus, &self.seeds]);
        command
    }

    /// Runs a command to its end. Returns what it has said.
    fn listen(&self, command: &mut Command) -> Result<(ExitStatus, String)> {
        let output = command.output()?;
        let text = [&output.stdout[..], &output.stderr].concat();
        Ok((output.status, String::from_utf8_lossy(&text).into_owned()))
    }

    fn test(&self, name: &str, diagnostics: Vec<String>) -> Test {
        Test {
            name: format!("fuzz: {}: {name}", self.target.name),
            ok: diagnostics.is_empty(),
            skipped: None,
            diagnostics,
        }
    }

    /// Runs one input.
    fn try_one(&self, input: &Path) -> Result<Test> {
        let (status, text) = self.listen(self.command().arg(input))?;
        let mut diagnostics = Vec::new();
        if !status.success() || !text.lines().any(|line| line.starts_with("Executed ")) {
            diagnostics = complaint(&text);
            diagnostics.extend(describe(self.target, input));
        }
        let name = input.file_name().unwrap_or_default().to_string_lossy();
        Ok(self.test(&name, diagnostics))
    }

    /// Runs what there is, and then new inputs for some seconds. Returns a test for each of
    /// the first ones, and one for all others.
    pub fn tests(&self, seconds: u32, seed: u64) -> Result<Vec<Test>> {
        let known = [files(&self.seeds)?, files(&self.found)?].concat();
        let mut tests = known
            .iter()
            .map(|input| self.try_one(input))
            .collect::<Result<Vec<_>>>()?;
        let (status, text) = self.listen(
            self.search()
                .arg(format!("-max_total_time={seconds}"))
                // To libFuzzer 0 is none.
                .arg(format!("-seed={}", (seed as u32).max(1))),
        )?;
        fs::write(&self.log, &text)?;
        let diagnostics = match (status.success(), Counts::parse(&text)) {
            (true, Some(counts)) => counts.fault().map(str::to_string).into_iter().collect(),
            (ok, _) => {
                let mut lines = complaint(&text);
                if ok {
                    lines.push(UNCOUNTED.to_string());
                }
                lines.extend(status.signal().map(|signal| format!("signal {signal}")));
                if let Some(input) = written(&text) {
                    lines.extend(describe(self.target, input));
                }
                lines
            }
        };
        tests.push(self.test(&format!("new inputs, {seconds} s"), diagnostics));
        Ok(tests)
    }

    /// Runs one input, or new ones until something is found, for a person to see. Returns
    /// whether all went well.
    pub fn show(&self, input: Option<&Path>) -> Result<bool> {
        let mut command = match input {
            Some(input) if !input.is_file() => {
                bail!("no file {} in checkout or cache", input.display())
            }
            Some(input) => {
                let mut command = self.command();
                // Relative to where the caller is.
                command
                    .arg(fs::canonicalize(input)?)
                    .env("RUST_BACKTRACE", "1");
                command
            }
            None => self.search(),
        };
        let ok = command.status()?.success();
        if !ok && input.is_none() {
            let newest = |path: &PathBuf| fs::metadata(path).and_then(|data| data.modified()).ok();
            let found = files(&self.found)?.into_iter().max_by_key(newest);
            for line in found.iter().flat_map(|input| describe(self.target, input)) {
                println!("{line}");
            }
        }
        Ok(ok)
    }
}

/// The tests of all targets, and where their logs are.
pub fn all(paths: &Paths, seconds: u32, seed: u64) -> Result<(Vec<Test>, PathBuf)> {
    ensure!(!TARGETS.is_empty(), "there is nothing to be fuzzed");
    let mut tests = Vec::new();
    for target in TARGETS {
        tests.extend(Fuzz::new(paths, target)?.tests(seconds, seed)?);
    }
    Ok((tests, paths.out().join("fuzz")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: &str = "INFO: Loaded 1 modules   (9764 inline 8-bit counters): 9764 [0x1, 0x2), \n\
        #2\tINITED cov: 7 ft: 7 corp: 1/1b exec/s: 0 rss: 28Mb\n\
        #3640501\tDONE   cov: 19 ft: 20 corp: 6/32b lim: 4096 exec/s: 520071 rss: 28Mb\n\
        Done 3640501 runs in 7 second(s)\n\
        stat::number_of_executed_units: 3640501\nstat::average_exec_per_sec:     520071\n";

    #[test]
    fn counts_are_read() {
        let counts = Counts::parse(END).unwrap();
        let expected = Counts {
            counters: 9764,
            covered: 19,
            runs: 3_640_501,
        };
        assert_eq!(counts, expected);
        assert_eq!(counts.fault(), None);
    }

    #[test]
    fn a_run_of_nothing_is_a_fault() {
        for (some, none) in [
            ("(9764 inline", "(0 inline"),
            ("DONE   cov: 19", "DONE   cov: 0"),
            ("units: 3640501", "units: 0"),
        ] {
            let text = END.replace(some, none);
            assert_ne!(text, END);
            assert!(Counts::parse(&text).unwrap().fault().is_some(), "{none}");
        }
        // It has ended early, or was not instrumented.
        for gone in ["INFO: Loaded", "DONE", "stat::number", "cov: 19 ft: 20 "] {
            let text = END.replace(gone, "");
            assert_eq!(Counts::parse(&text), None, "{gone}");
        }
    }

    #[test]
    fn what_was_found_is_described() {
        let text = "#75\tNEW cov: 3\n\nthread '<unnamed>' panicked at src/a.rs:1:2:\nno end\n\
            note: run with `RUST_BACKTRACE=1`\n==1== ERROR: libFuzzer: deadly signal\n\
            artifact_prefix='a/'; Test unit written to a/crash-1\nBase64: BAAAAA==\n";
        assert_eq!(complaint(text)[1], "no end");
        assert_eq!(written(text), Some(Path::new("a/crash-1")));
        let file = std::env::temp_dir().join(format!("vm-test-fuzz-{}", std::process::id()));
        fs::write(&file, b"\x04a\"").unwrap();
        let lines = describe(named("stream").unwrap(), &file);
        fs::remove_file(&file).unwrap();
        assert!(lines[0].ends_with(", 3 bytes:"), "{lines:?}");
        assert_eq!(lines[1], r#"b"\x04a\"""#);
        let again = format!("make fuzz FUZZ=stream INPUT={}", file.display());
        assert!(lines[2].ends_with(&again), "{lines:?}");
    }

    #[test]
    fn a_wrong_name_lists_the_right_ones() {
        let err = named("nosuch").unwrap_err().to_string();
        assert!(err.contains("report"), "{err}");
    }
}

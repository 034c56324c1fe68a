// SPDX-License-Identifier: GPL-2.0

//! `hwtest`: what an adapter does, as a report to mail.

use super::{
    complete,
    doctor,
    json::{
        self,
        Outcome, //
    },
    out::{
        self,
        errln,
        outln, //
    },
    show,
    BAD,
    GOOD,
    KILLED, //
};
use clap::builder::PossibleValuesParser;
use clap_complete::ArgValueCandidates;
use std::{
    fmt::Write as _,
    io::{
        self,
        BufRead,
        Read,
        Write as _, //
    },
    path::{
        Path,
        PathBuf, //
    },
};
use vfio_mig::{
    bdf::Bdf,
    error::{
        Context,
        Error, //
    },
    host::{
        problem::Problem,
        Host, //
    },
    hwtest::{
        self,
        Report,
        EXPERIMENTS, //
    },
    interrupt,
    output::Output,
    text, //
};

/// Find out what the firmware of an adapter does, on spare VFs.
///
/// Lists the experiments, and asks whether to go on. They reset the VFs, save and load states,
/// and log DMA. They change neither firmware nor anything of the PF, and refuse VFs that a
/// process has open. The report is written as text and as JSON. It has the versions of kernel,
/// driver and firmware, the addresses of the VFs and the name of the host, and no data of a VF.
/// A signal ends the experiments; the report then has those that were done.
/// Exit status: 0 if no experiment has failed, else 1.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The VFs, which must have a VFIO driver. States are loaded into the second one, if there
    /// is one, and DMA of all of them is logged at the same time.
    #[arg(required = true, value_name = "VF", add = ArgValueCandidates::new(complete::devices))]
    vfs: Vec<Bdf>,
    /// Only this experiment. May be given more than once.
    #[arg(long, value_name = "NAME", value_parser = experiments())]
    only: Vec<String>,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// Names of the report, without .txt and .json.
    #[arg(long, value_name = "NAME", default_value = "vfio-mig-hwtest")]
    output: PathBuf,
}

impl Args {
    /// Checks what depends on several arguments.
    pub fn check(&self) -> Result<(), String> {
        super::check_each_once(&self.vfs)
    }
}

/// The names of the experiments.
fn experiments() -> PossibleValuesParser {
    PossibleValuesParser::new(EXPERIMENTS.iter().map(|experiment| experiment.name))
}

/// Longest answer that is read, in bytes.
const MOST_ANSWER: u64 = 80;

/// Whether the user wants it.
fn is_wanted() -> Result<bool, Error> {
    errln!("Type yes and press Enter to begin, or anything else to end:")?;
    let mut answer = String::new();
    // One that goes on and on is none.
    io::stdin()
        .lock()
        .take(MOST_ANSWER)
        .read_line(&mut answer)
        .context("standard input")?;
    Ok(answer.trim() == "yes")
}

/// The report as text.
fn in_words(report: &Report) -> String {
    let mut words = String::new();
    let mut line = |line: &str| {
        // Writing to a string does not fail.
        let _ = writeln!(words, "{line}");
    };
    line("vfio-mig hwtest");
    for vf in &report.vfs {
        line(&format!("VF {vf}"));
    }
    line(&format!("kernel {}", report.doctor.kernel));
    for adapter in &report.doctor.adapters {
        let or_unknown = |value: &Option<String>| value.clone().unwrap_or("unknown".to_string());
        line(&format!(
            "PF {}, device {}, PSID {}, firmware {}",
            adapter.pf,
            or_unknown(&adapter.device),
            or_unknown(&adapter.psid),
            or_unknown(&adapter.firmware)
        ));
    }
    for outcome in &report.outcomes {
        line("");
        let result = if outcome.error.is_some() {
            "FAILED"
        } else {
            "done"
        };
        line(&format!("{}: {result}, {:.0} ms", outcome.name, outcome.ms));
        line(&format!("  assumed: {}", outcome.assumed));
        if let Some(error) = &outcome.error {
            line(&format!("  {error}"));
        }
        for (name, value) in &outcome.figures {
            line(&format!("  {name}: {value}"));
        }
    }
    if let Some(signal) = &report.interrupted {
        line("");
        line(&format!("INTERRUPTED by {signal}"));
        for name in &report.not_done {
            line(&format!("  not done: {name}"));
        }
    }
    line("");
    for check in report.doctor.checks.iter().flat_map(doctor::lines) {
        line(&check);
    }
    text::shown_lines(&words)
}

/// A file of the report.
struct ReportFile {
    name: String,
    output: Output,
}

impl ReportFile {
    /// Opens the one whose name ends with `kind`.
    fn create(name: &Path, kind: &str) -> Result<Self, Error> {
        let mut path = name.as_os_str().to_os_string();
        path.push(kind);
        let path = PathBuf::from(path);
        let name = text::shown_path(&path);
        let output = Output::create(&path).context(name.clone())?;
        Ok(Self { name, output })
    }

    /// Writes all of it. Returns its name.
    fn write(mut self, text: &str) -> Result<String, Error> {
        let written = self.output.write_all(text.as_bytes());
        written
            .and_then(|()| self.output.commit())
            .context(self.name.clone())?;
        Ok(self.name)
    }
}

/// Writes both files of a report, and returns their names. If one cannot be written, the other one
/// still is.
fn keep(files: [(ReportFile, &str); 2]) -> Result<[String; 2], Error> {
    match files.map(|(file, text)| file.write(text)) {
        [Ok(words), Ok(object)] => Ok([words, object]),
        [Err(err), other] | [other, Err(err)] => Err(err.unless_undone(other.map(drop))),
    }
}

/// The exit status after experiments.
fn status(report: &Report) -> u8 {
    match interrupt::check() {
        Err(Error::Interrupted { signal }) => KILLED | signal as u8,
        _ if report.failed() == 0 => GOOD,
        _ => BAD,
    }
}

/// Prints a report of which a file could not be written, since the experiments take a while.
/// Returns the exit status.
fn print_instead(report: &Report, json: bool, err: Error) -> Result<u8, Error> {
    let printed = match json {
        true => show::json(report),
        false => errln!("{}", in_words(report).trim_end()),
    };
    match printed {
        // Standard output has an object, and gets no second one for the error.
        Ok(()) if json => {
            errln!("vfio-mig: {err}")?;
            Ok(status(report).max(BAD))
        }
        printed => Err(err.unless_undone(printed)),
    }
}

/// Says where a report is.
fn print_names(report: &Report, [words, object]: [String; 2]) -> Result<(), Error> {
    let (failed, done) = (report.failed(), report.outcomes.len());
    if let Some(signal) = &report.interrupted {
        errln!("vfio-mig: interrupted by {signal} after {done} experiments")?;
    }
    outln!("{failed} of {done} experiments have failed; the report is in {words} and {object}")
}

pub fn run(args: &Args, json: bool) -> Result<u8, Error> {
    let host = Host::this();
    hwtest::check(&host, &args.vfs)?;
    if !json {
        for experiment in hwtest::chosen(&args.only) {
            outln!("{:14} {}", experiment.name, experiment.does)?;
        }
    }
    if !args.yes && !is_wanted()? {
        return Err(Problem::NotWanted.into());
    }
    // Before the experiments, which take a while: what they find must have a place.
    let words_to = ReportFile::create(&args.output, ".txt")?;
    let object_to = ReportFile::create(&args.output, ".json")?;
    // A report that goes to no regular file has no temporary one, which else has signals caught.
    interrupt::catch()?;
    let report = hwtest::run(&host, &args.vfs, &args.only, |experiment| match json {
        true => Ok(()),
        false => errln!("{} ...", experiment.name),
    })?;
    let object = json::object(Outcome::Result(&report)).map_err(io::Error::from);
    let object = object.context("JSON")? + "\n";
    let words = in_words(&report);
    let names = match keep([(words_to, &words), (object_to, &object)]) {
        Ok(names) => names,
        Err(err) => return print_instead(&report, json, err),
    };
    out::after(
        "the report is written",
        match json {
            true => show::json(&report),
            false => print_names(&report, names),
        },
    )?;
    Ok(status(&report))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs,
        os::unix::fs::symlink, //
    };

    #[test]
    fn what_can_be_written_of_a_report_is_kept() {
        let dir = std::env::temp_dir().join(format!("vfio-mig-report-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let name = dir.join("report");
        let keep = |full: &[&str]| {
            for kind in full {
                symlink("/dev/full", dir.join(format!("report{kind}"))).unwrap();
            }
            let file = |kind| ReportFile::create(&name, kind).unwrap();
            let kept = super::keep([(file(".txt"), "words"), (file(".json"), "{}")]);
            let read = |kind| fs::read_to_string(dir.join(format!("report{kind}"))).ok();
            let has = [".txt", ".json"].map(|kind| match full.contains(&kind) {
                true => None,
                false => read(kind),
            });
            for kind in [".txt", ".json"] {
                fs::remove_file(dir.join(format!("report{kind}"))).unwrap();
            }
            assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
            (kept.map_err(|err| err.to_string()), has)
        };
        let [words, object] = [Some("words".to_string()), Some("{}".to_string())];
        let (kept, has) = keep(&[]);
        assert!(kept.is_ok());
        assert_eq!(has, [words.clone(), object.clone()]);
        for (full, expected) in [
            (&[".txt"][..], [None, object]),
            (&[".json"], [words, None]),
            (&[".txt", ".json"], [None, None]),
        ] {
            let (kept, has) = keep(full);
            let why = kept.unwrap_err();
            assert_eq!(has, expected);
            for kind in full {
                let words = format!("report{kind}: No space left on device (ENOSPC); free some");
                assert!(why.contains(&words), "{why}");
            }
        }
        fs::remove_dir(dir).unwrap();
    }
}

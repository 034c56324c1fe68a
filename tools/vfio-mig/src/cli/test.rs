// SPDX-License-Identifier: GPL-2.0

//! `test`: the conformance suite, in KTAP.

use super::{
    check_distinct,
    complete,
    out::outln,
    show,
    values,
    BAD,
    GOOD,
    SKIP, //
};
use clap_complete::ArgValueCandidates;
use std::{
    collections::BTreeSet,
    path::{
        Path,
        PathBuf, //
    },
    time::Duration, //
};
use vfio_mig::{
    address::Address,
    conformance::{
        self,
        runner::{
            self,
            Outcome,
            Status,
            Summary, //
        },
        Expectations,
        Site, //
    },
    device::Device,
    error::{
        Context,
        Error, //
    },
    text,
    text_file, //
};

/// Test whether a device's driver does what the uAPI says.
///
/// There is a test for each sentence of include/uapi/linux/vfio.h about migration that can
/// be checked.
///
/// The device is reset many times, and its state is lost. Prints KTAP: a test that
/// cannot be run on this device is skipped, with the reason; one that fails as
/// `--expect` says is marked XFAIL. Exits with 0 if none failed, 1 if one did,
/// 4 if all were skipped.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The device.
    #[arg(required_unless_present_any = ["list", "check_quotes"], add = ArgValueCandidates::new(complete::devices))]
    device: Option<Address>,
    /// Another device, which can load the state of the first.
    #[arg(add = ArgValueCandidates::new(complete::devices))]
    second: Option<Address>,
    /// Only tests with this in their name. May be given more than once.
    #[arg(long, value_name = "NAME", value_parser = parse_only, add = ArgValueCandidates::new(complete::tests))]
    only: Vec<String>,
    /// A TOML file with the tests that the driver is known to fail.
    #[arg(long, value_name = "FILE")]
    expect: Option<PathBuf>,
    /// Time limit for each test. A test that takes longer fails.
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = values::at_least_one::<u64>)]
    timeout: u64,
    /// List the tests, and what each is about. Opens no device.
    #[arg(long)]
    list: bool,
    /// List the quotes that are missing from, or in another line of, this
    /// include/uapi/linux/vfio.h.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["list", "device"])]
    check_quotes: Option<PathBuf>,
}

/// A part of the name of a test.
fn parse_only(text: &str) -> Result<String, String> {
    let tests = conformance::tests();
    if tests.iter().any(|test| test.name.contains(text)) {
        return Ok(text.to_string());
    }
    Err(format!(
        "no test has this in its name; {}",
        right_names(text)
    ))
}

/// Suggestions for `wrong`, which is in the name of no test: the tests of its group, or else
/// the groups.
fn right_names(wrong: &str) -> String {
    let tests = conformance::tests();
    let group = |name: &str| name.split('.').next().unwrap_or_default().to_string();
    let groups: BTreeSet<String> = tests.iter().map(|test| group(&test.name)).collect();
    let names: Vec<String> = tests
        .into_iter()
        .map(|test| test.name)
        .filter(|name| group(name) == group(wrong))
        .collect();
    match names.is_empty() {
        true => format!(
            "names begin with {} (`vfio-mig test --list` lists them)",
            groups.into_iter().collect::<Vec<_>>().join(", ")
        ),
        false => format!("tests of this group: {}", names.join(", ")),
    }
}

impl Args {
    /// Fails if the arguments do not fit each other.
    pub fn check(&self) -> Result<(), String> {
        match self.device {
            Some(device) => check_distinct(device, self.second),
            None => Ok(()),
        }
    }
}

fn about(line: Option<u32>, quote: &str) -> String {
    match line {
        Some(line) => format!("vfio.h:{line} \"{quote}\""),
        None => format!("expected: {quote}"),
    }
}

/// Prints an outcome. KTAP has one line for a test; diagnostics come before it.
fn print_ktap(number: usize, outcome: &Outcome) -> Result<(), Error> {
    outln!("# {}", about(outcome.line, outcome.quote))?;
    let name = &outcome.name;
    let message = outcome.message.replace('\n', " ");
    match outcome.status {
        Status::Pass => outln!("ok {number} {name}"),
        Status::Skip => outln!("ok {number} {name} # SKIP {message}"),
        Status::Known => outln!("ok {number} {name} # XFAIL {message}"),
        Status::Fail => {
            outln!("# {message}")?;
            outln!("not ok {number} {name}")
        }
    }
}

fn check_quotes(path: &Path, json: bool) -> Result<u8, Error> {
    let header = text_file::read(path).context(text::shown_path(path))?;
    let wrong = conformance::misquoted(&header);
    if json {
        show::json(&serde_json::json!({ "misquoted": wrong }))?;
    } else {
        for wrong in &wrong {
            outln!("{wrong}")?;
        }
    }
    Ok(if wrong.is_empty() { GOOD } else { BAD })
}

/// Reads a file, and fails if a test in it does not exist.
fn read_expectations(path: &Path) -> Result<Expectations, Error> {
    let known = Expectations::read(path)?;
    let tests = conformance::tests();
    let names: Vec<&str> = tests.iter().map(|test| test.name.as_str()).collect();
    match known.unknown_tests(&names).first() {
        Some(name) => Err(Error::UnknownTest {
            path: path.to_path_buf(),
            name: name.to_string(),
            right: right_names(name),
        }),
        None => Ok(known),
    }
}

fn list(tests: &[conformance::Test], json: bool) -> Result<(), Error> {
    let mut all = Vec::new();
    for test in tests {
        let about = match test.source {
            conformance::Source::Uapi(line, quote) => about(Some(line), quote),
            conformance::Source::Expected(why) => about(None, why),
        };
        if json {
            all.push(serde_json::json!({ "name": test.name, "about": about }));
        } else {
            outln!("{}", test.name)?;
            outln!("{}", show::wrapped("    ", &about))?;
        }
    }
    if json {
        show::json(&serde_json::json!({ "listed": all }))?;
    }
    Ok(())
}

fn nothing_to_test(why: &Error, json: bool) -> Result<(), Error> {
    if json {
        let tests: [Outcome; 0] = [];
        let summary = Summary::default();
        show::json(&serde_json::json!({
            "summary": summary, "tests": tests, "skipped": why.to_string(),
        }))
    } else {
        outln!("KTAP version 1")?;
        outln!("1..0 # SKIP {why}")
    }
}

pub fn run(args: &Args, json: bool) -> Result<u8, Error> {
    if let Some(path) = &args.check_quotes {
        return check_quotes(path, json);
    }
    let tests = runner::selected(&args.only);
    let device = match args.device {
        Some(device) if !args.list => device,
        _ => {
            list(&tests, json)?;
            return Ok(GOOD);
        }
    };
    let known = match &args.expect {
        Some(path) => read_expectations(path)?,
        None => Expectations::default(),
    };
    let site = Site {
        device,
        second: args.second,
    };
    if let Some(second) = args.second {
        // Opening the first one resets it.
        Device::look_up(second)?;
    }
    // Once, rather than in each test.
    for device in [Some(device), args.second].into_iter().flatten() {
        match Device::open(device).and_then(|device| device.features()) {
            Err(err @ Error::NotMigratable { .. }) => {
                nothing_to_test(&err, json)?;
                return Ok(SKIP);
            }
            other => other?,
        };
    }
    if !json {
        outln!("KTAP version 1")?;
        outln!("1..{}", tests.len())?;
    }
    let mut outcomes = Vec::new();
    let timeout = Duration::from_secs(args.timeout);
    let summary = runner::run(&tests, &site, &known, timeout, |outcome| {
        outcomes.push(outcome.clone());
        match json {
            true => Ok(()),
            false => print_ktap(outcomes.len(), outcome),
        }
    })?;
    if json {
        show::json(&serde_json::json!({
            "summary": summary, "tests": outcomes, "skipped": null,
        }))?;
    } else {
        outln!(
            "# Totals: pass:{} fail:{} xfail:{} skip:{}",
            summary.passed,
            summary.failed,
            summary.known,
            summary.skipped
        )?;
    }
    Ok(match summary {
        _ if summary.failed > 0 => BAD,
        _ if summary.passed + summary.known == 0 => SKIP,
        _ => GOOD,
    })
}

// SPDX-License-Identifier: GPL-2.0

//! `doctor`: what a migration lacks.

use super::{
    complete,
    out::outln,
    show,
    BAD,
    GOOD, //
};
use clap_complete::ArgValueCandidates;
use std::path::PathBuf;
use vfio_mig::{
    bdf::Bdf,
    doctor::{
        self, asking, compare,
        report::{
            Check,
            Report,
            Verdict, //
        },
    },
    error::Error,
    host::Host,
    interrupt, //
};

/// Say what this host lacks to migrate VFs, and what mends it.
///
/// Each line has a verdict: ok, warning (it may fail, or nobody can tell) or missing (it will
/// fail). Below it stands what to do: in words, or as a command for root's shell. Nothing is
/// changed. No device is opened, unless `--open` is given. For two hosts, save what
/// `vfio-mig doctor --json` prints on one of them, and give it to `--compare` on the other.
/// Exit status: 0 if nothing is missing, else 1.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A PF, which is looked at with its VFs, or one VF; all PFs by default.
    #[arg(add = ArgValueCandidates::new(complete::adapters))]
    device: Option<Bdf>,
    /// Also compare this host with the report of another one.
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Also ask the drivers of VFs that nobody uses, which resets these VFs.
    #[arg(long)]
    open: bool,
}

/// Where what was found begins: behind verdict and name.
const FOUND: usize = 36;
/// Where advice begins.
const ADVICE: usize = 9;

/// What is shown of a check.
pub fn lines(check: &Check) -> Vec<String> {
    let mut lines = Vec::new();
    let head = format!("{:7}  {:25}", check.verdict, check.name);
    let found = show::wrapped(&" ".repeat(FOUND), &check.found);
    let found = format!("{head:FOUND$}{}", found.get(FOUND..).unwrap_or_default());
    let advice = check.advice.iter();
    let advice = advice.map(|advice| show::wrapped(&" ".repeat(ADVICE), advice));
    for text in std::iter::once(found).chain(advice) {
        lines.extend(text.lines().map(|line| line.trim_end().to_string()));
    }
    // A command stays in one line, so that it can be copied.
    let commands = check.commands.iter();
    lines.extend(commands.map(|command| format!("{:ADVICE$}# {command}", "")));
    lines
}

fn print(report: &Report) -> Result<(), Error> {
    for line in report.checks.iter().flat_map(lines) {
        outln!("{line}")?;
    }
    let [missing, warnings] = [Verdict::Missing, Verdict::Warning].map(|one| report.count(one));
    match (missing, warnings) {
        (0, 0) => outln!("nothing is missing"),
        (0, warnings) => outln!("nothing is missing; warnings: {warnings}"),
        (missing, warnings) => outln!("missing: {missing}; warnings: {warnings}"),
    }
}

pub fn run(args: &Args, json: bool) -> Result<u8, Error> {
    // A file that is none is found before VFs are reset.
    let other = args.compare.as_deref().map(compare::read).transpose()?;
    // Programs that are run for their versions end with this one.
    interrupt::catch()?;
    let ask: Option<&asking::Ask> = args.open.then_some(&asking::open);
    let mut report = doctor::examine(&Host::this(), args.device, ask)?;
    interrupt::check()?;
    if let Some(other) = other {
        let compared = compare::checks(&report, &other);
        report.checks.extend(compared);
    }
    match json {
        true => show::json(&report)?,
        false => print(&report)?,
    }
    Ok(match report.count(Verdict::Missing) {
        0 => GOOD,
        _ => BAD,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_as_wide_as_a_terminal_at_most() {
        let words = "it was found that this is one of the longer sentences ".repeat(3);
        let check = Check::missing("0000:01:00.2 migratable", &words)
            .say(&words)
            .run("devlink dev eswitch set pci/0000:01:00.0 mode switchdev");
        let lines = lines(&check);
        assert!(
            lines.iter().all(|line| line.len() <= show::COLUMNS),
            "{lines:#?}"
        );
        assert!(lines[0].starts_with("missing  0000:01:00.2 migratable    it was found"));
        assert!(lines.last().unwrap().starts_with("         # devlink dev"));
        let joined = lines
            .join(" ")
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        assert_eq!(joined.matches(words.trim()).count(), 2, "{joined}");
    }
}

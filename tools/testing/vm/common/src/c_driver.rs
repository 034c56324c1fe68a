// SPDX-License-Identifier: GPL-2.0

//! The table of faults of the C driver, and of what it stands on, that a scenario shows.
//!
//! Init has a function for each, and a page has a report of each.

/// A fault.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// What happens.
    pub name: &'static str,
    /// The scenario that shows it.
    pub scenario: &'static str,
}

const fn usual(name: &'static str) -> Fault {
    Fault {
        name,
        scenario: "c-driver",
    }
}

/// One that needs bounce buffers.
const fn bounced(name: &'static str) -> Fault {
    Fault {
        name,
        scenario: "c-driver-bounced",
    }
}

/// One that needs a page tracker with more messages than a queue holds, which looks for the next
/// receive entry all the time.
const fn flooded(name: &'static str) -> Fault {
    Fault {
        name,
        scenario: "c-driver-flood",
    }
}

/// All of them.
pub const ALL: &[Fault] = &[
    usual("RUNNING after a reload in PRE_COPY"),
    usual("PRECOPY_INFO after a reload in PRE_COPY"),
    usual("PRECOPY_INFO after the device was closed"),
    usual("STOP after a reload in RESUMING"),
    usual("STOP in an image"),
    usual("write after an unbind"),
    usual("record without memory"),
    usual("two writers"),
    usual("size record that is too short"),
    usual("refused first SAVE"),
    usual("refused SAVE in PRE_COPY"),
    usual("refused SAVE at the end of PRE_COPY"),
    usual("refused query of the last image"),
    usual("reset in a SAVE"),
    usual("reset in an arc"),
    usual("reader without memory"),
    usual("writer without memory"),
    usual("read into an unmapped page"),
    usual("PRECOPY_INFO onto garbage"),
    usual("PRECOPY_INFO in the first SAVE"),
    usual("read in a SAVE"),
    usual("LOAD that is refused as busy"),
    usual("late SUSPEND"),
    usual("late SAVE"),
    usual("late LOAD"),
    usual("late report"),
    usual("report of a part of a tracked page"),
    usual("report of the end of a tracked page"),
    usual("empty range"),
    usual("silent page tracker"),
    usual("probe without memory"),
    usual("event of a command comes twice"),
    usual("event of a command does not come"),
    bounced("state through bounce buffers"),
    bounced("report through bounce buffers"),
    flooded("report that fills its queue"),
];

/// Those of mlx5_core, of which tools/series/fixes has none.
const NOT_FIXED: &[&str] = &[
    "event of a command comes twice",
    "event of a command does not come",
];

impl Fault {
    /// Whether a patch of tools/series/fixes mends it.
    pub fn is_fixed(&self) -> bool {
        !NOT_FIXED.contains(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        documented,
        faults,
        kernel::Kernel,
        scenarios, //
    };

    #[test]
    fn names_are_unique_and_scenarios_exist() {
        for (i, fault) in ALL.iter().enumerate() {
            assert!(ALL[..i].iter().all(|other| other.name != fault.name));
            assert!(scenarios::find(fault.scenario).is_some(), "{fault:?}");
        }
    }

    #[test]
    fn each_fix_names_tests_that_exist() {
        let series = documented::fixes();
        let tests: Vec<String> = ALL
            .iter()
            .filter(|fault| fault.is_fixed())
            .map(|fault| format!("{}:{}", fault.scenario, fault.name))
            .collect();
        // KERNEL-SCENARIO:TEST.
        let test = |line: &str| {
            let (kernel, test) = line.split('"').nth(1)?.split_once('-')?;
            kernel.parse::<Kernel>().ok().map(|_| test.to_string())
        };
        let named: Vec<String> = series.lines().filter_map(test).collect();
        assert!(named.iter().all(|name| tests.contains(name)), "{named:?}");
        assert!(tests.iter().all(|test| named.contains(test)), "{named:?}");
    }

    #[test]
    fn each_fix_is_that_of_a_report() {
        let series = documented::fixes();
        let message = |line: &str| line.strip_prefix("message = ").map(str::to_string);
        let mut fixes: Vec<String> = series.lines().filter_map(message).collect();
        fixes.sort();
        let page = documented::c_driver_bugs();
        let named = page.split("tools/series/fixes/").skip(1);
        let named = named.filter_map(|rest| rest.split_once(".patch``"));
        let mut named: Vec<String> = named.map(|(name, _)| format!("\"{name}.patch\"")).collect();
        named.sort();
        named.dedup();
        assert_eq!(fixes, named);
    }

    /// What a make variable is in a command.
    fn value<'a>(command: &'a str, variable: &str) -> Option<&'a str> {
        let (_, value) = command.split_once(&format!(" {variable}="))?;
        match value.strip_prefix('\'') {
            Some(quoted) => quoted.split('\'').next(),
            None => value.split_whitespace().next(),
        }
    }

    #[test]
    fn each_report_says_how_to_see_a_fault_that_exists() {
        let page = documented::c_driver_bugs();
        let mut shown = Vec::new();
        for command in page.lines().filter(|line| line.contains("make scenario ")) {
            let scenario = value(command, "SCENARIO").and_then(scenarios::find);
            let scenario = scenario.unwrap_or_else(|| panic!("{command}: no scenario"));
            let kernel = value(command, "KERNEL");
            let kernel = Kernel::ALL
                .into_iter()
                .find(|one| Some(one.name()) == kernel);
            assert!(
                kernel.is_some_and(|one| scenario.runs_with(one)),
                "{command}"
            );
            if let Some(name) = value(command, "FAULT") {
                let known = ALL.iter().find(|fault| fault.name == name);
                let of = known.map(|fault| fault.scenario);
                assert_eq!(of, Some(scenario.name), "{command}");
                shown.push(name);
            }
        }
        let all: Vec<&str> = ALL.iter().map(|fault| fault.name).collect();
        assert!(
            all.iter().all(|name| shown.contains(name)),
            "of {all:?}, only {shown:?}"
        );
        for (at, _) in page.match_indices("FAULT='") {
            let command = page[..at].rsplit("make ").next();
            let name = page[at..].split('\'').nth(1);
            if command.is_some_and(|command| command.starts_with("check-qemu-faults")) {
                assert!(name.and_then(faults::find).is_some(), "{name:?}");
            }
        }
    }

    /// What each report has.
    const FIELDS: [&str; 7] = [
        "Versions",
        "Effect",
        "Cause",
        "Reproduction",
        "Log",
        "Fix",
        "Certainty",
    ];

    #[test]
    fn each_report_has_all_that_a_mail_needs() {
        let page = documented::c_driver_bugs();
        let lines: Vec<&str> = page.lines().collect();
        let is_rule = |line: &str| !line.is_empty() && line.bytes().all(|byte| byte == b'-');
        let reports: Vec<usize> = (0..lines.len()).filter(|at| is_rule(lines[*at])).collect();
        assert!(!reports.is_empty());
        for (i, at) in reports.iter().enumerate() {
            let end = reports.get(i + 1).copied().unwrap_or(lines.len());
            for field in FIELDS {
                let is_field = |line: &&str| line.starts_with(&format!(":{field}: "));
                let count = lines[*at..end].iter().filter(|line| is_field(line)).count();
                assert_eq!(count, 1, "{}: {field}", lines[at - 1]);
            }
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! How long each machine of a campaign takes, and the whole campaign from now on.

use super::{
    parts::{
        Goal,
        Part, //
    },
    report,
    slice::Done, //
};
use vm_common::{
    kernel::Kernel,
    scenarios::Scenario, //
};

/// How long a machine will take, in seconds: as long as it took before, or what its part guesses.
pub fn machine(part: &Part, done: &[Done], kernel: Kernel, scenario: &Scenario) -> f64 {
    let runs = || report::runs(part, done, (kernel, scenario)).map(|one| one.seconds);
    match runs().count() {
        0 => part.guess(kernel, scenario),
        count => runs().sum::<f64>() / count as f64,
    }
}

/// How long machines will still run until a part has come to its goal, in seconds.
fn of_part(part: &Part, done: &[Done]) -> f64 {
    let (count, goal) = report::progress(part, done);
    if let Goal::Machines(each) = part.goal {
        let left = |(kernel, scenario): (Kernel, &Scenario)| {
            let runs = report::runs(part, done, (kernel, scenario)).count() as u64;
            each.saturating_sub(runs) as f64 * machine(part, done, kernel, scenario)
        };
        return part.machines().map(left).sum();
    }
    let of_part = done.iter().filter(|one| one.part == part.name);
    let spent: f64 = of_part.map(|one| one.seconds).sum();
    let left = goal.saturating_sub(count) as f64;
    match count {
        // The first machines will tell.
        0 => part
            .machines()
            .map(|(kernel, scenario)| part.guess(kernel, scenario))
            .sum(),
        count => spent / count as f64 * left,
    }
}

/// How long machines will still run, in seconds, until all parts have come to their goals.
pub fn rest(parts: &[&Part], done: &[Done]) -> f64 {
    parts.iter().map(|part| of_part(part, done)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::parts;
    use vm_common::scenarios;

    fn done(part: &Part, slice: &str, seconds: f64) -> Done {
        Done {
            part: part.name.to_string(),
            slice: slice.to_string(),
            seconds,
            ..Done::default()
        }
    }

    #[test]
    fn a_machine_takes_as_long_as_before() {
        let part = parts::wanted(Some("soak")).unwrap()[0];
        let soak = scenarios::find("soak").unwrap();
        let guess = machine(part, &[], Kernel::Intree, soak);
        assert!(guess >= f64::from(part.seconds), "{guess}");
        let all = [
            done(part, "intree-soak:1", 10.0),
            done(part, "intree-soak:2", 20.0),
            done(part, "intree-soak-chunks:1", 500.0),
            done(part, "debug-soak:1", 500.0),
        ];
        assert_eq!(machine(part, &all, Kernel::Intree, soak), 15.0);
    }

    #[test]
    fn what_is_done_is_not_left() {
        let part = parts::wanted(Some("soak")).unwrap()[0];
        let before = rest(&[part], &[]);
        let one = [done(part, "intree-soak:1", 100.0)];
        assert!(rest(&[part], &one) < before);
        let ends: Vec<Done> = part
            .machines()
            .map(|(kernel, scenario)| done(part, &(scenario.group(kernel) + ":1"), 1.0))
            .collect();
        assert_eq!(rest(&[part], &ends), 0.0);
    }
}

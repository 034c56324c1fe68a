// SPDX-License-Identifier: GPL-2.0

//! What came of the mutants: a table for a person, and report.json.

use super::{
    host::{
        self,
        Host, //
    },
    mutant::Mutant,
    trial::Verdict,
    Done, //
};
use serde_json::{
    json,
    Value, //
};
use std::fmt::Write as _;

/// The command that runs just one mutant again.
pub fn again(name: &str) -> String {
    format!("make mutants MUTANT={name}")
}

/// How many there are of each kind. What nothing can notice is no mutant here.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Figures {
    /// Those that were built and tested.
    pub mutants: usize,
    /// Those of them that a test has noticed.
    pub killed: usize,
    /// Those of them that no test has noticed.
    pub survived: usize,
    /// Those that nothing can notice.
    pub equivalent: usize,
    /// Those that do not compile: others have to take their place.
    pub broken: usize,
    /// Those that were not run yet.
    pub open: usize,
}

/// A mutant, and what came of it.
type Row<'a> = (&'a Mutant, Option<&'a Done>);

/// The rows of a report.
fn rows<'a>(mutants: &'a [Mutant], done: &'a [Done]) -> Vec<Row<'a>> {
    let of = |mutant: &'a Mutant| {
        (
            mutant,
            done.iter().rev().find(|one| one.name == mutant.name),
        )
    };
    mutants.iter().map(of).collect()
}

/// The figures of the lists, and of cargo-mutants if that was run.
pub fn figures(mutants: &[Mutant], done: &[Done], host: Option<&Host>) -> Figures {
    let mut figures = Figures::default();
    for (mutant, done) in rows(mutants, done) {
        let count = match (&mutant.equivalent, done.map(|done| &done.verdict)) {
            (Some(_), _) => &mut figures.equivalent,
            (None, None) => &mut figures.open,
            (None, Some(Verdict::Killed(_))) => &mut figures.killed,
            (None, Some(Verdict::Survived)) => &mut figures.survived,
            (None, Some(Verdict::DoesNotCompile(_))) => &mut figures.broken,
        };
        *count += 1;
    }
    if let Some(host) = host {
        figures.killed += host.killed;
        figures.survived += host.survived.len();
        figures.equivalent += host.equivalent;
    }
    figures.mutants = figures.killed + figures.survived;
    figures
}

/// report.json.
pub fn json(mutants: &[Mutant], done: &[Done], host: Option<&Host>, of: &Value) -> Value {
    let rows: Vec<Value> = rows(mutants, done)
        .into_iter()
        .map(|(mutant, done)| {
            let mut row = json!({
                "name": mutant.name,
                "about": mutant.about,
                "file": mutant.file,
                "again": again(&mutant.name),
            });
            if let Some(reason) = &mutant.equivalent {
                row["equivalent"] = json!(reason);
            }
            if let Some(done) = done {
                row["verdict"] = json!(done.verdict);
                row["seconds"] = json!(done.seconds.round());
            }
            row
        })
        .collect();
    let figures = figures(mutants, done, host);
    let mut report = json!({
        "mutants": figures.mutants,
        "killed": figures.killed,
        "survived": figures.survived,
        "equivalent": figures.equivalent,
        "does_not_compile": figures.broken,
        "not_run": figures.open,
        "rows": rows,
        host::NAME: host,
    });
    for (key, value) in of.as_object().into_iter().flatten() {
        report[key] = value.clone();
    }
    report
}

/// One line for a mutant, and what it is if nothing has noticed it.
pub fn line(mutant: &Mutant, done: &Done) -> String {
    let (name, seconds) = (&mutant.name, done.seconds);
    match &done.verdict {
        Verdict::Killed(test) => format!("killed    {seconds:5.0} s  {name}: {test}"),
        Verdict::Survived => format!(
            "SURVIVED  {seconds:5.0} s  {name}: {}\n    {}\n    again: {}",
            mutant.about,
            mutant.file,
            again(name)
        ),
        Verdict::DoesNotCompile(log) => {
            format!("NO CODE   {seconds:5.0} s  {name}: does not compile, see {log}")
        }
    }
}

/// The table: what has survived comes first.
pub fn render(mutants: &[Mutant], done: &[Done], host: Option<&Host>) -> String {
    let order = |(_, done): &Row<'_>| match done.map(|done| &done.verdict) {
        Some(Verdict::Survived) => 0,
        Some(Verdict::DoesNotCompile(_)) => 1,
        _ => 2,
    };
    let mut rows = rows(mutants, done);
    rows.sort_by_key(order);
    let mut text = String::from("\n");
    for name in host.iter().flat_map(|host| &host.survived) {
        let _ = writeln!(text, "SURVIVED  {name}\n    again: {}", again(host::NAME));
    }
    for (mutant, done) in rows {
        if let Some(done) = done {
            let _ = writeln!(text, "{}", line(mutant, done));
        }
    }
    let figures = figures(mutants, done, host);
    let _ = write!(
        text,
        "\n{} mutants: {} killed, {} survived; {} equivalent",
        figures.mutants, figures.killed, figures.survived, figures.equivalent
    );
    for (count, what) in [
        (figures.broken, "do not compile"),
        (figures.open, "were not run yet"),
    ] {
        if count > 0 {
            let _ = write!(text, ", {count} {what}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutant(name: &str, equivalent: Option<&str>) -> Mutant {
        Mutant {
            name: name.to_string(),
            equivalent: equivalent.map(str::to_string),
            ..Mutant::default()
        }
    }

    fn done(name: &str, verdict: Verdict) -> Done {
        Done {
            name: name.to_string(),
            verdict,
            ..Done::default()
        }
    }

    #[test]
    fn what_survives_comes_first() {
        let mutants = [
            mutant("a", None),
            mutant("b", None),
            mutant("c", Some("why")),
            mutant("d", None),
            mutant("e", None),
        ];
        let done = [
            done("a", Verdict::Killed("stock-streams: x".to_string())),
            // A test was added, and it was run again.
            done("b", Verdict::Survived),
            done("b", Verdict::Killed("y".to_string())),
            done("d", Verdict::Survived),
        ];
        let host = Host {
            mutants: 7,
            killed: 6,
            survived: vec!["f".to_string()],
            equivalent: 2,
        };
        let expected = Figures {
            mutants: 10,
            killed: 8,
            survived: 2,
            equivalent: 3,
            broken: 0,
            open: 1,
        };
        assert_eq!(figures(&mutants, &done, Some(&host)), expected);
        let text = render(&mutants, &done, Some(&host));
        let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part}: {text}"));
        assert!(at("make mutants MUTANT=d") < at("a: stock-streams: x"));
        assert!(at("make mutants MUTANT=cargo-mutants") < at("a: stock-streams: x"));
        assert!(
            text.ends_with("10 mutants: 8 killed, 2 survived; 3 equivalent, 1 were not run yet")
        );
        let report = json(&mutants, &done, None, &json!({ "seed": 1 }));
        assert_eq!((&report["killed"], &report["seed"]), (&json!(2), &json!(1)));
        assert_eq!(report["rows"][3]["verdict"], "survived");
        assert_eq!(report["rows"][1]["verdict"]["killed"], "y");
        assert_eq!(report["rows"][2]["equivalent"], "why");
    }
}

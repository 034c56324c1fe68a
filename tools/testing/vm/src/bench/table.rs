// SPDX-License-Identifier: GPL-2.0

//! The tables of goals and results: a short one in README.md, and all of it in the page about
//! tests; and the results that they are made of.

use super::{
    paths as rows_of_calls,
    ALL, //
};
use crate::{
    paths::Paths,
    report, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use serde_json::{
    json,
    Value, //
};
use std::fs;

/// The results, in the checkout.
const RESULTS: &str = "Documentation/dev-tools/vfio-rust/paths.json";
const README: &str = "README.md";
/// The whole table, which a page includes.
const WHOLE: &str = "Documentation/dev-tools/vfio-rust/paths.txt";
/// The rows that README.md has, beside all that miss their goals: enough to tell a user what to
/// expect.
const SHORT: &[&str] = &[
    "migrate",
    "migrate, with clear_page()",
    "read, 1 MiB",
    "write, leave RESUMING",
    "report, 100 %",
    "memory pinned in a session",
];
/// What the table in README.md is between.
const BEGIN: &str = "<!-- make bench-table: begin -->\n";
const END: &str = "<!-- make bench-table: end -->\n";
/// In place of a table of nothing.
const UNMEASURED: &str =
    "No figures of this version are recorded here yet. `make bench BENCH=paths` \
                          measures, and\n`make bench-table` puts the results here.\n";
/// Changes with what the file of results looks like.
const SCHEMA: u32 = 1;
/// Columns: kernels, and what they are called.
const KERNELS: [(&str, &str); 2] = [
    ("stock", "stock kernel"),
    ("bare", "in-tree kernel without checkers"),
];

/// The file of results.
fn results(rows: &Value) -> Value {
    json!({
        "SPDX-License-Identifier": "GPL-2.0",
        "schema": SCHEMA,
        "rows": rows,
    })
}

/// What a goal of a row is about, in words.
fn of(row: &Value) -> &str {
    match row["goal_of"].as_str() {
        Some("rust") => row["unit"].as_str().unwrap_or_default(),
        Some("difference") => "more than C",
        Some("ratio_to_memfd") => "of a file in memory",
        Some("ratio_to_pinned") => "of the pages pinned",
        _ => "of C",
    }
}

/// The figure that a goal of a row is about.
fn figure(row: &Value) -> Option<f64> {
    match row["goal_of"].as_str()? {
        "difference" => Some(row["rust"].as_f64()? - row["c"].as_f64()?),
        figure => row[figure].as_f64(),
    }
}

/// A cell: the figure, in bold if it misses the goal. What C has is beside a figure that is not
/// put to it.
fn cell(row: Option<&Value>) -> String {
    let Some((row, figure)) = row.and_then(|row| Some((row, figure(row)?))) else {
        return String::new();
    };
    let text = rows_of_calls::shown(&json!(figure));
    let of_c = match row["goal_of"].as_str() {
        Some("rust") if row["c"].is_number() => {
            format!("; C: {}", rows_of_calls::shown(&row["c"]))
        }
        _ => String::new(),
    };
    let text = match row["met"].as_bool() {
        Some(true) => text,
        // It misses the goal by less than is shown.
        _ if text == rows_of_calls::shown(&row["goal"]) => format!("**> {text}**"),
        _ => format!("**{text}**"),
    };
    text + &of_c
}

/// The results with a kernel that have a goal.
fn with_goal<'a>(results: &'a Value, kernel: &'a str) -> impl Iterator<Item = &'a Value> {
    let rows = results["rows"].as_array().map_or(&[][..], Vec::as_slice);
    rows.iter()
        .filter(move |row| row["kernel"] == kernel && row["goal"].is_number())
}

/// The cells of a table: its head, and the rows that have a goal.
fn cells(results: &Value) -> Vec<Vec<String>> {
    let (first, _) = KERNELS[0];
    let names = KERNELS.iter().map(|(_, name)| name.to_string());
    let head = ["what", "goal, at most"].map(str::to_string);
    let rows = with_goal(results, first).map(|row| {
        let path = row["path"].as_str().unwrap_or_default();
        let goal = format!("{} {}", rows_of_calls::shown(&row["goal"]), of(row));
        let figures = KERNELS
            .iter()
            .map(|(kernel, _)| cell(with_goal(results, kernel).find(|row| row["path"] == path)));
        [path.to_string(), goal]
            .into_iter()
            .chain(figures)
            .collect()
    });
    [head.into_iter().chain(names).collect()]
        .into_iter()
        .chain(rows)
        .collect()
}

/// How many goals are reached.
fn reached(results: &Value) -> String {
    let (first, name) = KERNELS[0];
    let met = with_goal(results, first).filter(|row| row["met"] == true);
    let (met, all) = (met.count(), with_goal(results, first).count());
    format!(
        "{met} of {all} goals are reached with the {name}; figures that miss theirs are bold.\n"
    )
}

/// The table in README.md.
fn table(results: &Value) -> String {
    let cells = cells(results);
    let [head, rows @ ..] = &cells[..] else {
        return String::new();
    };
    if rows.is_empty() {
        return UNMEASURED.to_string();
    }
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = line(head) + &line(&vec!["---".to_string(); head.len()]);
    let (first, _) = KERNELS[0];
    let misses =
        |path: &str| with_goal(results, first).any(|row| row["path"] == path && row["met"] != true);
    for row in rows {
        if SHORT.contains(&row[0].as_str()) || misses(&row[0]) {
            text += &line(row);
        }
    }
    text + "\n" + &reached(results)
}

/// The whole table, for a page.
fn page(results: &Value) -> String {
    let quoted = |cells: &[String]| {
        let cells: Vec<_> = cells.iter().map(|cell| format!("\"{cell}\"")).collect();
        cells.join(", ")
    };
    let mut text = ".. SPDX-License-Identifier: GPL-2.0\n\n.. csv-table::\n".to_string();
    for (number, row) in cells(results).iter().enumerate() {
        text += &match number {
            0 => format!("   :header: {}\n\n", quoted(row)),
            _ => format!("   {}\n", quoted(row)),
        };
    }
    text + "\n" + &reached(results)
}

/// A text with another table in it.
fn with_table(text: &str, table: &str) -> Result<String> {
    let (before, rest) = text.split_once(BEGIN).context("no begin of the table")?;
    let (_, after) = rest.split_once(END).context("no end of the table")?;
    Ok(format!("{before}{BEGIN}{table}{END}{after}"))
}

/// Makes the last results of `make bench BENCH=paths` those of the checkout, and the tables
/// those of README.md and of the page.
pub fn update(paths: &Paths) -> Result<()> {
    let benchmark = ALL.iter().find(|one| one.name == "paths");
    let file = paths.out().join(benchmark.context("no paths")?.file);
    let rows = fs::read_to_string(&file)
        .with_context(|| format!("{}: run `make bench BENCH=paths` first", file.display()))?;
    let rows: Value = serde_json::from_str(&rows)?;
    ensure!(rows.is_array(), "{} has no rows", file.display());
    let results = results(&rows);
    let readme = paths.top.join(README);
    let text = with_table(&fs::read_to_string(&readme)?, &table(&results))?;
    fs::write(paths.top.join(RESULTS), report::text(&results)?)?;
    fs::write(readme, text)?;
    fs::write(paths.top.join(WHOLE), page(&results))?;
    println!(
        "{RESULTS}, {WHOLE} and {README} have the results of {}",
        file.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readme_has_the_results_of_the_checkout() {
        let readme = include_str!("../../../../../README.md");
        let results = include_str!("../../../../../Documentation/dev-tools/vfio-rust/paths.json");
        let results: Value = serde_json::from_str(results).unwrap();
        assert_eq!(results["schema"], SCHEMA);
        assert!(
            with_table(readme, &table(&results)).unwrap() == readme,
            "README.md must have this table; `make bench-table` writes it:\n{}",
            table(&results)
        );
        let whole = include_str!("../../../../../Documentation/dev-tools/vfio-rust/paths.txt");
        assert!(
            page(&results) == whole,
            "{WHOLE} must be this; `make bench-table` writes it:\n{}",
            page(&results)
        );
        let rows = cells(&results);
        for name in SHORT {
            assert!(rows.iter().any(|row| row[0] == *name), "no row {name:?}");
        }
    }

    #[test]
    fn a_row_has_a_figure_for_each_kernel() {
        let row = |path: &str, kernel: &str, of: &str, goal: Value, met: bool| {
            json!({
                "path": path, "kernel": kernel, "unit": "bytes", "rust": 50_000.0, "c": 49_998.0,
                "ratio": 1.0, "goal": goal, "goal_of": of, "met": met,
            })
        };
        let with_ratio = |path: &str, ratio: f64| {
            let mut row = row(path, "stock", "ratio", json!(1.0), false);
            row["ratio"] = json!(ratio);
            row
        };
        let results = results(&json!([
            row("a", "stock", "ratio", json!(0.5), false),
            row("migrate", "stock", "rust", json!(45_000.0), false),
            row("c", "stock", "difference", json!(2.0), true),
            with_ratio("d", 1.0004),
            row("no goal", "stock", "ratio", Value::Null, false),
            row("a", "bare", "ratio", json!(1.0), true),
        ]));
        let page = page(&results);
        for line in [
            r#"   :header: "what", "goal, at most", "stock kernel", "in-tree kernel without checkers""#,
            r#"   "a", "0.500 of C", "**1.000**", "1.000""#,
            r#"   "migrate", "45000 bytes", "**50000**; C: 49998", """#,
            r#"   "c", "2.000 more than C", "2.000", """#,
            r#"   "d", "1.000 of C", "**> 1.000**", """#,
        ] {
            assert!(
                page.lines().any(|one| one == line),
                "{line:?} not in\n{page}"
            );
        }
        assert!(!page.contains("no goal"));
        let table = table(&results);
        let expected = "\
| what | goal, at most | stock kernel | in-tree kernel without checkers |
| --- | --- | --- | --- |
| a | 0.500 of C | **1.000** | 1.000 |
| migrate | 45000 bytes | **50000**; C: 49998 |  |
| d | 1.000 of C | **> 1.000** |  |

1 of 4 goals are reached with the stock kernel; figures that miss theirs are bold.
";
        assert_eq!(table, expected);
    }

    #[test]
    fn only_the_table_is_replaced() {
        let text = format!("before\n{BEGIN}old\n{END}after\n");
        let new = with_table(&text, "new\n").unwrap();
        assert_eq!(new, format!("before\n{BEGIN}new\n{END}after\n"));
        assert_eq!(with_table(&new, "new\n").unwrap(), new);
        assert!(with_table("none", "new\n").is_err());
    }
}

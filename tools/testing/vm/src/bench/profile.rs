// SPDX-License-Identifier: GPL-2.0

//! The functions that the instructions of each call are of.

use super::{
    counts::{
        self,
        Count,
        Counts, //
    },
    median,
    Measured, //
};
use crate::report::write;
use anyhow::{
    ensure,
    Result, //
};
use serde_json::{
    json,
    Value, //
};
use std::{
    collections::{
        BTreeMap,
        BTreeSet, //
    },
    fmt::Write as _,
    path::Path, //
};

/// Functions of each path that are shown. profile.json has all.
const SHOWN: usize = 12;
/// The first address of the kernel.
const KERNEL: u64 = 1 << 63;
/// What is executed in user space.
const USER: &str = "(user space)";

/// The functions of the kernel, as the guest has told.
fn functions(data: &[Value]) -> BTreeMap<u64, String> {
    let lists = data
        .iter()
        .filter_map(|value| value["functions"].as_array());
    let function = |entry: &Value| {
        let name = entry[1].as_str()?;
        let name = format!("{:#}", rustc_demangle::demangle(name));
        Some((entry[0].as_u64()?, name))
    };
    lists.flatten().filter_map(function).collect()
}

/// The function that an address is in.
fn function_at(functions: &BTreeMap<u64, String>, address: u64) -> &str {
    if address < KERNEL {
        return USER;
    }
    let below = functions.range(..=address).next_back();
    below.map_or("(unknown)", |(_, name)| name)
}

/// The median of each function's instructions, in the runs that have executed it.
fn by_function<'a>(
    counts: &[Count],
    functions: &'a BTreeMap<u64, String>,
) -> BTreeMap<&'a str, f64> {
    let mut of: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for count in counts {
        let mut run: BTreeMap<&str, f64> = BTreeMap::new();
        for (address, block) in &count.section.blocks {
            let executed = block.instructions as f64;
            *run.entry(function_at(functions, *address)).or_default() += executed;
        }
        for (name, executed) in run {
            of.entry(name).or_default().push(executed);
        }
    }
    of.into_iter()
        .map(|(name, runs)| (name, median(runs)))
        .collect()
}

/// profile.json's list: for each path, the functions that most instructions are of come
/// first.
fn list(counts: &Counts, functions: &BTreeMap<u64, String>) -> Vec<Value> {
    let mut list = Vec::new();
    for path in counts.paths() {
        let [rust, c] = ["rust", "c"].map(|driver| by_function(counts.of(path, driver), functions));
        let names: BTreeSet<&str> = rust.keys().chain(c.keys()).copied().collect();
        let of = |driver: &BTreeMap<&str, f64>, name| driver.get(name).copied().unwrap_or(0.0);
        let mut rows: Vec<_> = names
            .into_iter()
            .map(|name| (name, of(&rust, name), of(&c, name)))
            .collect();
        rows.sort_by(|a, b| b.1.max(b.2).total_cmp(&a.1.max(a.2)));
        for (function, rust, c) in rows {
            list.push(json!({ "path": path, "function": function, "rust": rust, "c": c }));
        }
    }
    list
}

fn render(list: &[Value]) -> String {
    let mut text = String::new();
    let (mut path, mut shown) = ("", 0);
    for row in list {
        let of = |name: &str| row[name].as_str().unwrap_or_default();
        if of("path") != path {
            (path, shown) = (of("path"), 0);
            let _ = writeln!(text, "\n  {path:<66}{:>12}{:>12}", "Rust", "C");
        }
        shown += 1;
        if shown <= SHOWN {
            let number = |name: &str| row[name].as_f64().unwrap_or(f64::NAN);
            let (rust, c) = (number("rust"), number("c"));
            let _ = writeln!(text, "    {:<64}{rust:>12.0}{c:>12.0}", of("function"));
        }
    }
    text
}

/// Writes profile.json and shows the beginning of what is in it.
pub fn publish(measured: &Measured<'_>, file: &Path) -> Result<()> {
    let outcome = measured.one()?;
    let functions = functions(&outcome.data);
    ensure!(
        !functions.is_empty(),
        "the machine has told of no functions"
    );
    let list = list(&counts::of(outcome)?, &functions);
    println!("{}", render(&list));
    write(&json!(list), file)
}

#[cfg(test)]
mod tests {
    use super::{
        super::counts::tests::section,
        *, //
    };

    #[test]
    fn instructions_belong_to_the_function_that_they_are_in() {
        let base = KERNEL + 0x100;
        let data = [json!({ "functions": [[base, "first"], [base + 0x10, "_RNvC1a1b"]] })];
        let functions = functions(&data);
        let count = |driver: &str, at: u64| Count {
            said: json!({ "path": "p", "driver": driver }),
            section: section(&[(at, 5), (at + 4, 5), (0x10, 3)]),
        };
        let counts = [count("rust", base + 8), count("c", base + 0x10)];
        let list = list(&counts.into_iter().collect(), &functions);
        let row = |name: &str| list.iter().find(|row| row["function"] == name).unwrap();
        assert_eq!(row("first")["rust"], 10.0);
        assert_eq!(row("a::b")["c"], 10.0);
        assert_eq!(row("a::b")["rust"], 0.0);
        assert_eq!(
            (&row(USER)["rust"], &row(USER)["c"]),
            (&json!(3.0), &json!(3.0))
        );
        assert!(render(&list).contains("a::b"));
    }
}

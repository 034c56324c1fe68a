// SPDX-License-Identifier: GPL-2.0

//! Cuts this tree into series of patches for the kernel's maintainers.
//!
//! Each folder beside this crate's `src` is a series: `series.toml` says of which files of this tree
//! each patch consists, and a file for each patch has its message, with what it changes in files of
//! the kernel.

mod author;
mod finished;
mod git;
mod imports;
mod manifest;
#[cfg(test)]
mod manifest_tests;
mod message;
mod program;
mod report;
mod rewrite;
mod tree;

use anyhow::{
    bail,
    ensure,
    Context,
    Result, //
};
use author::Author;
use clap::{
    Parser,
    Subcommand, //
};
use manifest::Manifest;
use std::{
    fs,
    path::PathBuf,
    process::ExitCode, //
};

#[derive(Parser)]
#[command(about, version)]
struct Arguments {
    /// The checkout.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    top: PathBuf,
    #[command(subcommand)]
    command: What,
}

#[derive(Subcommand)]
enum What {
    /// Print the patches of all series: SERIES:NUMBER, name, subject, and the tests that
    /// it is for, with tabs between them.
    List,
    /// Fail if a file below these folders is in no series.
    Covers {
        /// Folders of the checkout.
        folders: Vec<String>,
    },
    /// Write what the kernel's tree has after a patch, of files that it has not, or otherwise.
    Tree {
        /// SERIES, or SERIES:NUMBER for its first patches.
        series: String,
        /// The kernel's source.
        #[arg(long, value_name = "FOLDER")]
        source: PathBuf,
        /// Where to write the files. What is there already must be of an earlier patch.
        #[arg(long, value_name = "FOLDER")]
        out: PathBuf,
    },
    /// The tests of a series, each as KERNEL-SCENARIO:TEST.
    Tests {
        /// Its name.
        series: String,
    },
    /// Put together what was found of each patch: a report as JSON, and a table.
    Report {
        /// Where the results are.
        folder: PathBuf,
        /// The report.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Names of series, if not all.
        series: Vec<String>,
    },
    /// Write series as mails, and apply these.
    Write {
        /// Names of series, if not all.
        series: Vec<String>,
        /// The kernel's source.
        #[arg(long, value_name = "FOLDER")]
        source: PathBuf,
        /// Where to write: a folder for each series.
        #[arg(long, value_name = "FOLDER")]
        out: PathBuf,
        /// Who signs off, and sends.
        #[arg(long, value_name = "NAME <ADDRESS>")]
        author: Author,
    },
}

fn run(arguments: Arguments) -> Result<()> {
    let Arguments { top, command } = arguments;
    let manifest = Manifest::read(&top.join("tools/series"))?;
    match command {
        What::List => {
            for series in &manifest.series {
                for (i, patch) in series.patches.iter().enumerate() {
                    println!(
                        "{}:{}\t{}\t{}",
                        series.name,
                        i + 1,
                        patch.name,
                        patch.message.subject
                    );
                }
            }
        }
        What::Covers { folders } => {
            tree::require_all(&top, &manifest, &folders)?;
            for series in &manifest.series {
                let chain = manifest.chain(&series.name)?;
                tree::files(&top, &manifest, &chain, series.patches.len())?;
            }
            let unused = manifest.rules.unused();
            ensure!(
                unused.is_empty(),
                "tools/series/rewrite.toml has rules that no file needs: {}",
                unused.join(", ")
            );
        }
        What::Tree {
            series,
            source,
            out,
        } => {
            let (name, count) = match series.split_once(':') {
                Some((name, count)) => (name, Some(count)),
                None => (series.as_str(), None),
            };
            let chain = manifest.chain(name)?;
            let all = chain.last().map_or(0, |series| series.patches.len());
            let count = match count {
                Some(count) => count
                    .parse()
                    .with_context(|| format!("{count:?} is no number"))?,
                None => all,
            };
            if count > all {
                bail!("{name} has {all} patches, not {count}");
            }
            fs::create_dir_all(&out).with_context(|| out.display().to_string())?;
            git::write_tree(&top, &manifest, &chain, count, &source, &out)?;
        }
        What::Tests { series } => {
            let series = *manifest.chain(&series)?.last().context("no series")?;
            for test in series.patches.iter().flat_map(|patch| &patch.tests) {
                println!("{test}");
            }
        }
        What::Report {
            folder,
            out,
            series,
        } => {
            report::write(&manifest.wanted(&series)?, &folder, &out)?;
        }
        What::Write {
            series,
            source,
            out,
            author,
        } => {
            let wanted = manifest.wanted(&series)?;
            git::write(&top, &manifest, &wanted, &source, &author, &out)?;
            for series in &wanted {
                println!("{:3} patches of {}", series.patches.len(), series.name);
            }
            let count: usize = wanted.iter().map(|one| one.patches.len()).sum();
            println!("{count:3} patches, which apply in order");
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("error: {err:#}");
            ExitCode::FAILURE
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! The VFIO selftests of the kernel tree on VFs of our driver: upstream's,
//! unmodified, and our tests with them, by `make run_tests`. Our test of dma-bufs
//! is then run with other drivers: it is to pass with vfio-pci, and to skip with
//! the C driver.
//!
//! Each test is one result here, and so is each program. What upstream skips is
//! a skip, with upstream's reason; but only what [`SKIPPED`] lists may be.

use super::{
    NamedRun,
    Vfs, //
};
use crate::{
    hca::{
        self,
        Driver, //
    },
    host::{
        self,
        in_root,
        ROOT, //
    },
    kmsg,
    sys,
    tap::Results, //
};
use anyhow::{
    anyhow,
    ensure,
    Context,
    Result, //
};
use std::{
    collections::BTreeSet,
    fs,
    io::{
        BufRead,
        BufReader, //
    },
    process::Stdio, //
};
use vfio_mig::bdf::Bdf;
use vm_common::judge::Mark;

/// The scenarios that are here.
pub const SCENARIOS: &[NamedRun] = &[("selftests", run)];

/// What the runner of the selftests names them.
const COLLECTION: &str = "selftests: vfio: ";
/// Ours.
const MIGRATION: &str = "vfio_migration_test.sh";
/// Ours, of dma-bufs.
const DMA_BUFS: &str = "vfio_pci_dmabuf_test";
/// What it says of a driver that exports none.
const NO_DMA_BUFS: &str = "exports no dma-bufs: Operation not supported";
/// Seconds for a program. The runner's 45 are meant for hardware.
const TIMEOUT: u32 = 600;

/// Programs and tests that have nothing to test on a VF of a ConnectX, and why.
const SKIPPED: &[(&str, &str)] = &[
    (
        "vfio_pci_device_test: vfio_pci_irq_test.msi.enable_trigger_disable",
        "these VFs have MSI-X only",
    ),
    (
        "vfio_pci_driver_test",
        "libvfio drives devices that copy memory (DSA, IOAT, Falcon, igb), and has nothing for this",
    ),
    (
        "vfio_pci_sriov_uapi_test",
        "tests VF tokens on a PF that is bound to vfio-pci; this is a VF",
    ),
];

/// What came of a test.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has passed.
    Ok,
    /// It has failed.
    Failed,
    /// It was skipped, for this reason.
    Skipped(String),
}

/// Takes a line of results apart: verdict, and the name.
pub fn result(line: &str) -> Option<(Verdict, &str)> {
    let (ok, rest) = match line.strip_prefix("not ok ") {
        Some(rest) => (false, rest),
        None => (true, line.strip_prefix("ok ")?),
    };
    let (number, rest) = rest.split_once(' ')?;
    number.parse::<u32>().ok()?;
    let (name, directive) = match rest.split_once(" # ") {
        Some((name, directive)) => (name, directive.trim()),
        None => (rest, ""),
    };
    // No failure is expected.
    let verdict = if !ok || directive.starts_with("XFAIL") {
        Verdict::Failed
    } else if let Some(reason) = directive.strip_prefix("SKIP") {
        Verdict::Skipped(reason.trim().to_string())
    } else {
        Verdict::Ok
    };
    Some((verdict, name.trim_start_matches("- ").trim()))
}

/// Hears what the runner says, and reports.
struct Listener<'a> {
    results: &'a mut Results,
    /// Programs that have ended.
    ended: BTreeSet<String>,
    /// Results of the program that runs.
    count: usize,
    /// How many it has announced.
    plan: Option<usize>,
    /// What it skips for, as a whole.
    reason: Option<String>,
    /// What it has said since its last result.
    said: Vec<String>,
    /// All of what was skipped.
    skipped: BTreeSet<String>,
    program: String,
}

impl<'a> Listener<'a> {
    fn new(results: &'a mut Results) -> Self {
        Self {
            results,
            ended: BTreeSet::new(),
            count: 0,
            plan: None,
            reason: None,
            said: Vec::new(),
            skipped: BTreeSet::new(),
            program: String::new(),
        }
    }

    /// Reports a result, with the complaints of the kernel since the last one.
    fn report(&mut self, name: &str, verdict: Verdict) {
        let faults = self.results.kernel_faults();
        let said = std::mem::take(&mut self.said);
        let expected = SKIPPED.iter().find(|(skipped, _)| *skipped == name);
        // That knows what its devices can do; but as a whole it is to run.
        let free = self.program == MIGRATION && name != MIGRATION;
        match (verdict, expected) {
            (Verdict::Skipped(reason), Some((_, why))) if faults == 0 => {
                self.skipped.insert(name.to_string());
                self.results.skip(name, &format!("{reason} ({why})"));
            }
            (Verdict::Skipped(reason), None) if faults == 0 && free => {
                self.results.skip(name, &reason);
            }
            (verdict, _) => {
                let result = match verdict {
                    Verdict::Ok if faults == 0 => Ok(()),
                    Verdict::Ok | Verdict::Failed => Err(anyhow!("{}", said.join("\n"))),
                    Verdict::Skipped(reason) => {
                        Err(anyhow!("skipped, and should not be: {reason}"))
                    }
                };
                self.results.conclude(name, result);
            }
        }
    }

    /// A line of a program.
    fn inner(&mut self, line: &str) {
        if let Some(plan) = line.strip_prefix("1..") {
            let (count, reason) = plan.split_once(" # SKIP").unwrap_or((plan, ""));
            self.plan = count.trim().parse().ok();
            if !reason.is_empty() {
                self.reason = Some(reason.trim().to_string());
            }
        } else if let Some((verdict, name)) = result(line) {
            self.count += 1;
            self.report(&format!("{}: {name}", self.program), verdict);
        } else if !line.trim().is_empty() {
            if let Some((_, name)) = line.split_once(" RUN ") {
                self.results.progress(name.trim().trim_end_matches(" ..."));
            }
            let text = line.strip_prefix("# ").unwrap_or(line);
            self.said.push(text.to_string());
        }
    }

    /// The end of a program.
    fn end(&mut self, verdict: Verdict, name: &str) {
        let verdict = match verdict {
            // The runner does not say why; the program has said it last.
            Verdict::Skipped(_) => Verdict::Skipped(
                self.reason
                    .take()
                    .or_else(|| self.said.last().cloned())
                    .unwrap_or_default(),
            ),
            Verdict::Ok if self.count == 0 || self.plan != Some(self.count) => {
                let (count, plan) = (self.count, self.plan);
                self.said
                    .push(format!("{count} results where the plan is {plan:?}"));
                Verdict::Failed
            }
            verdict => verdict,
        };
        self.report(name, verdict);
        self.ended.insert(name.to_string());
        self.program.clear();
        kmsg::mark(Mark::End);
    }

    /// A line of the runner.
    fn line(&mut self, line: &str) {
        let inner = line.strip_prefix("# ").or_else(|| line.strip_prefix('#'));
        if let Some((verdict, name)) = result(line) {
            if let Some(name) = name.strip_prefix(COLLECTION) {
                self.end(verdict, name);
                return;
            }
        }
        match inner {
            Some(inner) => match inner.strip_prefix(COLLECTION) {
                Some(name) => {
                    self.program = name.to_string();
                    if name == MIGRATION {
                        // Firmware refuses a state that is none. mlx5_core says so if the
                        // session still wants to know how the LOAD ended.
                        kmsg::expect("LOAD_VHCA_STATE");
                    }
                    (self.count, self.plan, self.reason) = (0, None, None);
                    self.said.clear();
                    self.results.progress(name);
                }
                None => self.inner(inner),
            },
            None => self.said.push(line.to_string()),
        }
    }
}

/// Makes the folder of the tests one that can be written to.
fn make_writable(folder: &str) -> Result<()> {
    let copy = "/dev/shm/vfio";
    let status = in_root("/bin/cp").args(["-a", folder, copy]).status()?;
    ensure!(status.success(), "cp: {status}");
    Ok(sys::mount_folder(
        &format!("{ROOT}{copy}"),
        &format!("{ROOT}{folder}"),
    )?)
}

/// The programs that there are.
fn programs(folder: &str) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(format!("{ROOT}{folder}"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with("_test") || name.ends_with("_test.sh") {
            names.insert(name);
        }
    }
    Ok(names)
}

/// `make run_tests`, and everything that it reports.
fn run_tests(
    listener: &mut Listener<'_>,
    tests: &str,
    vfio_mig: &str,
    vfs: (Bdf, Bdf),
) -> Result<()> {
    let both = format!("{} {}", vfs.0, vfs.1);
    let mut child = in_root("/bin/sh")
        .args(["-c", "exec make \"$@\" 2>&1", "make", "-C", tests])
        .args(["TARGETS=vfio", &format!("VFIO_MIG={vfio_mig}"), "run_tests"])
        .env("kselftest_override_timeout", TIMEOUT.to_string())
        .env("VFIO_SELFTESTS_BDF", vfs.0.to_string())
        .env("KSELFTEST_VFIO_PCI_DEVICE_INIT_PERF_TEST_ARGS", &both)
        .env("KSELFTEST_VFIO_MIGRATION_TEST_SH_ARGS", &both)
        .stdout(Stdio::piped())
        .spawn()
        .context("make")?;
    let output = child.stdout.take().context("no output")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).trim_end().to_string();
        println!("{line}");
        listener.line(&line);
    }
    let status = child.wait()?;
    ensure!(status.success(), "make: {status}");
    Ok(())
}

/// Runs the test of dma-bufs on a VF, all of whose tests must pass, or skip.
fn dma_bufs(folder: &str, vf: Bdf, passes: bool) -> Result<()> {
    let output = in_root(&format!("{folder}/{DMA_BUFS}"))
        .arg(vf.to_string())
        .output()
        .context(DMA_BUFS)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let said = || format!("{text}{}", String::from_utf8_lossy(&output.stderr));
    let verdicts: Vec<Verdict> = text
        .lines()
        .filter_map(|line| Some(result(line)?.0))
        .collect();
    let expected = |verdict: &Verdict| match verdict {
        Verdict::Ok => passes,
        Verdict::Skipped(reason) => !passes && reason.ends_with(NO_DMA_BUFS),
        Verdict::Failed => false,
    };
    let good = verdicts.iter().all(expected) && !verdicts.is_empty();
    ensure!(good && output.status.success(), "{}", said());
    Ok(())
}

pub fn run(results: &mut Results) -> Result<()> {
    if !fs::exists("/dev/iommu")? {
        results.skip(
            "the kernel's VFIO selftests",
            "the kernel has no iommufd, which they need",
        );
        return Ok(());
    }
    let parameter = |name| sys::kernel_parameter(name)?.with_context(|| format!("no {name}="));
    let tests = parameter("vmtest.selftests")? + "/tools/testing/selftests";
    let vfio_mig = parameter("vmtest.vfio_mig")?;
    let folder = format!("{tests}/vfio");
    let vfs = Vfs::new()?;
    let ours = vfs.of(Driver::Rust);
    host::mount()?;
    make_writable(&folder)?;

    let mut listener = Listener::new(results);
    let outcome = run_tests(&mut listener, &tests, &vfio_mig, ours);
    let Listener {
        ended,
        skipped,
        said,
        ..
    } = listener;
    results.test("the selftests run to their end", |_| {
        outcome.with_context(|| said.join("\n"))?;
        let all = programs(&folder)?;
        ensure!(
            ended == all && !all.is_empty(),
            "of {all:?}, {ended:?} ended\n{}",
            said.join("\n")
        );
        for (name, _) in SKIPPED {
            ensure!(skipped.contains(*name), "{name} was not skipped");
        }
        Ok(())
    });

    let (c, other) = vfs.of(Driver::C);
    results.test(&format!("{DMA_BUFS} skips with the C driver"), |_| {
        dma_bufs(&folder, c, false)
    });
    results.test(&format!("{DMA_BUFS} passes with vfio-pci"), |_| {
        sys::load_module("vfio_pci", "")?;
        hca::bind_to(other, "vfio-pci")?;
        dma_bufs(&folder, other, true)
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_taken_apart() {
        let skipped = |reason: &str| Verdict::Skipped(reason.to_string());
        for (line, expected) in [
            ("ok 1 a.b.c", Some((Verdict::Ok, "a.b.c"))),
            ("ok 2 - a b", Some((Verdict::Ok, "a b"))),
            ("not ok 3 a # exit=1", Some((Verdict::Failed, "a"))),
            ("ok 4 a # SKIP no device", Some((skipped("no device"), "a"))),
            ("ok 5 a # SKIP", Some((skipped(""), "a"))),
            ("ok 6 a # XFAIL", Some((Verdict::Failed, "a"))),
            ("okay 7 a", None),
            ("ok then", None),
            ("    ok 1 nested", None),
        ] {
            assert_eq!(result(line), expected, "{line}");
        }
    }
}

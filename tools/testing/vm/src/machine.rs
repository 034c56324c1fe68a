// SPDX-License-Identifier: GPL-2.0

//! A test machine: QEMU with the emulated HCA, from its start to its end.

use crate::{
    accel::Accel,
    children,
    command::{
        self,
        CONSOLE,
        FIRMWARE_FILES,
        INITRAMFS,
        INNER_INITRAMFS,
        PEER_VIOLATIONS,
        RESULTS,
        VIOLATIONS, //
    },
    console,
    initramfs,
    monitor,
    paths::Paths,
    report::path_word,
    tap::{
        self,
        News,
        Test, //
    },
    watchdog, //
};
use anyhow::{
    Context,
    Result, //
};
use serde_json::Value;
use std::{
    fs,
    path::{
        Path,
        PathBuf, //
    },
    time::Duration, //
};
use vm_common::{
    kernel::Kernel,
    scenarios::{
        Extra,
        Scenario, //
    },
};

/// How to start a machine.
pub struct Machine<'a> {
    /// Where things are.
    pub paths: &'a Paths,
    /// What it runs on.
    pub accel: Accel,
    /// What it boots.
    pub kernel: Kernel,
    /// What it does.
    pub scenario: &'a Scenario,
    /// Whether at full length, as in `make check-all`.
    pub all: bool,
    /// Properties of the emulated HCA.
    pub properties: &'a str,
    /// More for the kernel's command line.
    pub parameters: &'a str,
    /// A folder that it may write to, for what it keeps for other machines.
    pub kept: Option<&'a Path>,
}

/// What came of a machine.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Its tests.
    pub tests: Vec<Test>,
    /// Its data.
    pub data: Vec<Value>,
    /// Where its logs are.
    pub dir: PathBuf,
    /// How long it has kept a core busy.
    pub busy: Duration,
}

impl Outcome {
    /// Says where its logs are.
    pub fn show_logs(&self) {
        println!(
            "Console, results, commands of the firmware interface: {}",
            path_word(&self.dir)
        );
    }
}

fn read(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&text).into_owned()
}

impl Machine<'_> {
    /// Makes the folder of the machine, with what it boots from.
    fn prepare(&self) -> Result<PathBuf> {
        let group = self.scenario.group(self.kernel);
        let dir = self.paths.out().join("vm").join(group);
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir)?;
        let own = &self.scenario.machine;
        initramfs::write(self.paths, self.kernel, own, &dir.join(INITRAMFS))?;
        if self.scenario.has(Extra::Guest) {
            initramfs::write_inner(self.paths, self.kernel, own, &dir.join(INNER_INITRAMFS))?;
        }
        if self.scenario.has(Extra::Packages) {
            let firmware = self.paths.build.join("packages-firmware");
            for file in FIRMWARE_FILES {
                let from = firmware.join(file);
                fs::copy(&from, dir.join(file)).with_context(|| from.display().to_string())?;
            }
        }
        Ok(dir)
    }

    /// Runs the machine to its end. `hear` gets what it says until then.
    pub fn run(&self, hear: impl FnMut(News<'_>)) -> Result<Outcome> {
        self.run_until(watchdog::Until::End, hear)
    }

    /// Runs the machine to its end, or until a test fails.
    pub fn run_until_failure(&self) -> Result<Outcome> {
        self.run_until(watchdog::Until::Failure, |_| ())
    }

    fn run_until(&self, until: watchdog::Until, mut hear: impl FnMut(News<'_>)) -> Result<Outcome> {
        let dir = self.prepare()?;
        let qemu_log = fs::File::create(dir.join("qemu.log"))?;
        let mut qemu = command::command(self, &dir);
        let mut child = children::bind(monitor::add(&mut qemu, &dir)?)
            .stderr(qemu_log)
            .spawn()
            .context("starting qemu-system-x86_64")?;
        hear(News::Progress("booting"));
        let limit = self.scenario.machine.limit;
        let limits = watchdog::Limits::of(limit, self.all, self.kernel, until);
        let end = watchdog::wait(&mut child, &dir, &limits, hear)?;
        for file in [INITRAMFS, INNER_INITRAMFS] {
            let _ = fs::remove_file(dir.join(file));
        }
        Ok(judge(dir, end))
    }
}

/// The outcome of a machine that has ended, by itself or for a reason.
pub fn judge(dir: PathBuf, watchdog::End { stopped, busy }: watchdog::End) -> Outcome {
    let (mut tests, data, complete) = tap::parse(&read(&dir.join(RESULTS)));
    let death = console::death(&read(&dir.join(CONSOLE)));
    let mut end = Test {
        name: "the machine ran to its end".to_string(),
        ok: complete && stopped.is_none() && death.is_none(),
        skipped: None,
        diagnostics: Vec::new(),
    };
    if !end.ok {
        end.diagnostics.extend(stopped);
        end.diagnostics.extend(death);
        end.diagnostics
            .push("last lines of its console:".to_string());
        for log in [CONSOLE, "qemu.log"] {
            end.diagnostics.extend(console::last_lines(&dir.join(log)));
        }
    }
    tests.push(end);
    tests.extend(judge_logs(&dir));
    Outcome {
        tests,
        data,
        dir,
        busy,
    }
}

/// What the logs of a machine tell that its own tests may not have seen.
pub fn judge_logs(dir: &Path) -> [Test; 2] {
    let logs = [VIOLATIONS]
        .into_iter()
        .chain(PEER_VIOLATIONS.iter().copied());
    let violations: String = logs.map(|log| read(&dir.join(log))).collect();
    let violations = Test {
        name: "nothing violated the firmware interface".to_string(),
        ok: violations.is_empty(),
        skipped: None,
        diagnostics: console::first_lines(violations.lines()),
    };
    [console::judge(&read(&dir.join(CONSOLE))), violations]
}

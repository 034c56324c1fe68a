// SPDX-License-Identifier: GPL-2.0

//! A test machine: QEMU with the emulated HCA, from its start to its end.

use crate::{accel::Accel, initramfs, kernel, paths::Paths};
use anyhow::{Context, Result};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use vm_common::{
    kernel::Kernel,
    scenarios::{Extra, Scenario},
};

/// A machine that says nothing new for so long is hung.
const SILENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(100);
/// How much of a log is shown when something is wrong.
const LAST_LINES: usize = 15;

/// What a kernel says when it is beyond reporting anything itself.
const DEATHS: &[&str] = &["Kernel panic", "Oops:", "BUG: unable to handle"];

const INITRAMFS: &str = "initramfs.gz";
/// That of a machine in the machine.
const INNER_INITRAMFS: &str = "inner.gz";

/// The host's files, to be mounted read-only: those of the sysroot, with checkout
/// and cache where they are on the host.
const HOST_FILES: &[&str] = &[
    "-fsdev",
    "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap",
    "-device",
    "virtio-9p-pci,fsdev=root,mount_tag=root",
];

/// Two devices without a driver of their own. A port of its own is what such a
/// device can be reset by.
const SHARED_MEMORY: &[&str] = &[
    "-object",
    "memory-backend-ram,id=shm0,size=1M,share=on",
    "-device",
    "pcie-root-port,id=rp-shm0,bus=pcie.0,chassis=2",
    "-device",
    "ivshmem-plain,memdev=shm0,bus=rp-shm0",
    "-object",
    "memory-backend-ram,id=shm1,size=1M,share=on",
    "-device",
    "pcie-root-port,id=rp-shm1,bus=pcie.0,chassis=3",
    "-device",
    "ivshmem-plain,memdev=shm1,bus=rp-shm1",
];

/// QEMU's arguments for what a machine has beside the HCA.
fn extra_arguments(extra: Extra) -> &'static [&'static str] {
    match extra {
        Extra::HostFiles => HOST_FILES,
        Extra::SharedMemory => SHARED_MEMORY,
        // It is in the sysroot.
        Extra::Guest => &[],
    }
}

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
    /// Properties of the emulated HCA.
    pub properties: &'a str,
    /// More for the kernel's command line.
    pub parameters: &'a str,
}

/// A line of results.
#[derive(Clone, Debug)]
pub struct Test {
    /// What was tested.
    pub name: String,
    /// Whether it went well.
    pub ok: bool,
    /// Not run, and why.
    pub skipped: Option<String>,
    /// What it says about that.
    pub diagnostics: Vec<String>,
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
}

impl Outcome {
    /// Says where its logs are.
    pub fn show_logs(&self) {
        println!(
            "Console, results, commands of the firmware interface: {}",
            self.dir.display()
        );
    }
}

/// What a machine tells a person while it runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum News<'a> {
    /// What it does now.
    Progress(&'a str),
    /// What a person may want to keep.
    Say(&'a str),
}

impl<'a> News<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (kind, text) = line.trim_end().split_once(' ')?;
        match kind {
            "@progress" => Some(Self::Progress(text)),
            "@say" => Some(Self::Say(text)),
            _ => None,
        }
    }
}

/// The lines of `text` that are whole, and behind its first `heard` bytes.
fn new_lines(text: &[u8], heard: usize) -> &[u8] {
    let new = text.get(heard..).unwrap_or_default();
    let end = new.iter().rposition(|byte| *byte == b'\n');
    &new[..end.map_or(0, |end| end + 1)]
}

fn last_lines(path: &Path) -> Vec<String> {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(LAST_LINES);
    lines[from..]
        .iter()
        .map(|line| line.trim_end().to_string())
        .collect()
}

/// Takes KTAP apart. What ends early, or counts wrongly, fails.
fn parse(text: &str) -> (Vec<Test>, Vec<Value>, bool) {
    let mut tests: Vec<Test> = Vec::new();
    let mut data = Vec::new();
    let mut plan = None;
    let mut done = false;
    for line in text.lines().map(str::trim_end) {
        let result = line
            .strip_prefix("not ok ")
            .map(|rest| (false, rest))
            .or_else(|| line.strip_prefix("ok ").map(|rest| (true, rest)));
        if let Some((ok, rest)) = result {
            let name = rest.split_once(' ').map_or(rest, |(_, name)| name);
            let (name, skipped) = match name.split_once(" # SKIP") {
                Some((name, reason)) => (name, Some(reason.trim().to_string())),
                None => (name, None),
            };
            tests.push(Test {
                name: name.to_string(),
                ok,
                skipped,
                diagnostics: Vec::new(),
            });
        } else if let Some(text) = line.strip_prefix("# ") {
            if let Some(test) = tests.last_mut() {
                test.diagnostics.push(text.to_string());
            }
        } else if let Some(json) = line.strip_prefix("@json ") {
            data.extend(serde_json::from_str::<Value>(json));
        } else if let Some(count) = line.strip_prefix("1..") {
            plan = count.parse::<usize>().ok();
        } else if line == "@done" {
            done = true;
        }
    }
    let complete = done && plan == Some(tests.len());
    (tests, data, complete)
}

impl Machine<'_> {
    fn command(&self, dir: &Path) -> Command {
        let own = &self.scenario.machine;
        let mut command = Command::new("qemu-system-x86_64");
        command
            .env("LD_PRELOAD", self.paths.build.join("mlx5-emu.so"))
            .args(self.accel.args())
            .args(["-M", "q35,kernel-irqchip=split"])
            .args(["-smp", &own.cpus.to_string()])
            .args(["-m", &own.memory.to_string()])
            .args(["-nodefaults", "-no-reboot", "-display", "none"])
            .args(["-device", "intel-iommu,intremap=on,aw-bits=48"])
            .args([
                "-device",
                // The PF's BAR of 4 MiB, and one of 1 MiB for each of 64 VFs.
                "pcie-root-port,id=rp,bus=pcie.0,chassis=1,pref64-reserve=128M",
            ])
            .arg("-device")
            .arg(format!(
                "mlx5-emu,bus=rp,event-log={0}/commands.log,violations-log={0}/violations.log{1}{2}",
                dir.display(),
                own.properties,
                self.properties
            ))
            .arg("-serial")
            .arg(format!("file:{}/console.log", dir.display()))
            .arg("-serial")
            .arg(format!("file:{}/results.tap", dir.display()))
            .arg("-kernel")
            .arg(kernel::image(self.kernel, self.paths))
            .arg("-initrd")
            .arg(dir.join(INITRAMFS))
            // An emulated timer that has to wait for a busy host must not end the boot.
            .arg("-append")
            .arg(format!(
                "console=ttyS0 intel_iommu=on quiet loglevel=7 panic=-1 kmemleak={} \
                 no_timer_check \
                 vmtest.scenario={} vmtest.selftests={} vmtest.vfio_mig={} \
                 vmtest.consumer={} vmtest.precopy_info_v1={} vmtest.kernel={} vmtest.initramfs={} {} {}",
                if own.kmemleak { "on" } else { "off" },
                self.scenario.name,
                self.paths.selftests.display(),
                self.paths.build.join("vfio-mig").display(),
                self.paths.consumer.display(),
                self.paths.build.join("precopy-info-v1.so").display(),
                kernel::image(self.kernel, self.paths).display(),
                dir.join(INNER_INITRAMFS).display(),
                own.parameters,
                self.parameters
            ))
            .args(own.extras.iter().copied().flat_map(extra_arguments))
            .stdin(Stdio::null());
        command
    }

    /// Runs the machine to its end. `hear` gets what it says meanwhile.
    pub fn run(&self, mut hear: impl FnMut(News<'_>)) -> Result<Outcome> {
        let own = &self.scenario.machine;
        let group = self.scenario.group(self.kernel);
        let dir = self.paths.out().join("vm").join(group);
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir)?;
        initramfs::write(self.paths, self.kernel, &dir.join(INITRAMFS))?;
        if self.scenario.has(Extra::Guest) {
            initramfs::write_inner(self.paths, self.kernel, &dir.join(INNER_INITRAMFS))?;
        }
        let qemu_log = fs::File::create(dir.join("qemu.log"))?;
        let mut child = self
            .command(&dir)
            .stdout(qemu_log.try_clone()?)
            .stderr(qemu_log)
            .spawn()
            .context("starting qemu-system-x86_64")?;

        let results = dir.join("results.tap");
        let console = dir.join("console.log");
        let begin = Instant::now();
        let mut last_news = Instant::now();
        let mut seen = 0;
        let mut heard = 0;
        let mut stopped = None;
        hear(News::Progress("booting"));
        loop {
            let exited = child.try_wait()?;
            let text = fs::read(&results).unwrap_or_default();
            let size =
                text.len() as u64 + fs::metadata(&console).map(|meta| meta.len()).unwrap_or(0);
            if size != seen {
                seen = size;
                last_news = Instant::now();
                let new = new_lines(&text, heard);
                heard += new.len();
                let new = String::from_utf8_lossy(new);
                new.lines().filter_map(News::parse).for_each(&mut hear);
            }
            if let Some(status) = exited {
                if !status.success() {
                    stopped = Some(format!("QEMU ended with {status}"));
                }
                break;
            }
            if last_news.elapsed() > SILENCE {
                stopped = Some(format!(
                    "the machine hung: silent for {}s",
                    SILENCE.as_secs()
                ));
            } else if begin.elapsed() > own.limit {
                stopped = Some(format!(
                    "the machine ran for more than {}s",
                    own.limit.as_secs()
                ));
            }
            if stopped.is_some() {
                child.kill()?;
                child.wait()?;
                break;
            }
            thread::sleep(POLL);
        }
        for file in [INITRAMFS, INNER_INITRAMFS] {
            let _ = fs::remove_file(dir.join(file));
        }

        let text = fs::read(&results).unwrap_or_default();
        let (mut tests, data, complete) = parse(&String::from_utf8_lossy(&text));
        let console_text = fs::read(&console).unwrap_or_default();
        let console_text = String::from_utf8_lossy(&console_text);
        let death = console_text
            .lines()
            .find(|line| DEATHS.iter().any(|death| line.contains(death)));
        let mut end = Test {
            name: "the machine ran to its end".to_string(),
            ok: complete && stopped.is_none() && death.is_none(),
            skipped: None,
            diagnostics: Vec::new(),
        };
        if !end.ok {
            end.diagnostics.extend(stopped);
            end.diagnostics.extend(death.map(str::to_string));
            end.diagnostics
                .push("last lines of its console:".to_string());
            end.diagnostics.extend(last_lines(&console));
            end.diagnostics.extend(last_lines(&dir.join("qemu.log")));
        }
        tests.push(end);
        let violations = fs::read_to_string(dir.join("violations.log")).unwrap_or_default();
        tests.push(Test {
            name: "nothing violated the firmware interface".to_string(),
            ok: violations.is_empty(),
            skipped: None,
            diagnostics: violations
                .lines()
                .take(LAST_LINES)
                .map(str::to_string)
                .collect(),
        });
        Ok(Outcome { tests, data, dir })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read() {
        let text = "KTAP version 1\n@progress a\nok 1 a b\r\nnot ok 2 c\n# why\n\
                    ok 3 d # SKIP no device\n@json {\"x\":1}\n1..3\n@done\n";
        let (tests, data, complete) = parse(text);
        assert!(complete);
        assert_eq!(tests.len(), 3);
        assert_eq!((tests[0].name.as_str(), tests[0].ok), ("a b", true));
        assert_eq!(tests[1].diagnostics, ["why"]);
        assert_eq!(tests[2].skipped.as_deref(), Some("no device"));
        assert_eq!(data[0]["x"], 1);
    }

    #[test]
    fn a_line_is_heard_once_when_it_is_whole() {
        let text = b"@progress a\r\n@say b c\r\nok 1 d\n@say e\n@sa";
        let mut heard = 0;
        let mut said = Vec::new();
        for until in 0..=text.len() {
            let new = new_lines(&text[..until], heard);
            heard += new.len();
            let new = std::str::from_utf8(new).unwrap();
            said.extend(new.lines().filter_map(News::parse));
        }
        assert_eq!(
            said,
            [News::Progress("a"), News::Say("b c"), News::Say("e")]
        );
    }

    #[test]
    fn what_stops_early_is_not_complete() {
        for text in [
            "",
            "ok 1 a\n",
            "ok 1 a\n1..1\n",
            "ok 1 a\n1..2\n@done\n",
            "@done\n",
        ] {
            assert!(!parse(text).2, "{text:?}");
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! QEMU live-migrates a running guest with a VF of our driver.
//!
//! The guest is [`crate::inner`]: it says itself what it misses. A migration is
//! good when the guest goes on in the destination, where it was in the source:
//! what both have heard from it is one sequence.

use super::Bench;
use crate::{
    hca::Driver,
    host::{self, in_root, ROOT},
    inner,
    qmp::Qmp,
    sys,
    tap::Results,
};
use anyhow::{bail, ensure, Context, Result};
use serde_json::{json, Value};
use std::{
    fs::{self, File},
    os::unix::net::UnixStream,
    process::Child,
    thread,
    time::{Duration, Instant},
};
use vfio_mig::bdf::Bdf;

/// Where QEMU's files are, for QEMU.
const DIR: &str = "/dev/shm";
const POLL: Duration = Duration::from_millis(100);
/// A person and the host hear something so often.
const NEWS: Duration = Duration::from_secs(10);
const BOOT_TIMEOUT: Duration = Duration::from_secs(300);
const TIMEOUT: Duration = Duration::from_secs(180);
/// Reports of the guest before and after a migration.
const REPORTS: usize = 3;
const LAST_LINES: usize = 20;
/// Both sides' capabilities.
const CAPABILITIES: &[&str] = &["return-path", "switchover-ack", "events"];
/// In milliseconds, and bytes for each second: emulation is slow.
const DOWNTIME_LIMIT: u64 = 3000;
const MAX_BANDWIDTH: u64 = 1 << 34;
/// Takes a minute for the guest's memory.
const LOW_BANDWIDTH: u64 = 1 << 20;

/// How QEMU gets at the VF.
#[derive(Clone, Copy)]
enum Access {
    Iommufd,
    Container,
}

impl Access {
    fn name(self) -> &'static str {
        match self {
            Self::Iommufd => "iommufd",
            Self::Container => "container",
        }
    }

    fn arguments(self, vf: Bdf) -> Vec<String> {
        let device = format!("vfio-pci,host={vf},enable-migration=on");
        match self {
            Self::Iommufd => vec![
                "-object".to_string(),
                "iommufd,id=iommufd0".to_string(),
                "-device".to_string(),
                device + ",iommufd=iommufd0",
            ],
            Self::Container => vec!["-device".to_string(), device],
        }
    }
}

/// What every QEMU is started with.
struct Common {
    /// Where QEMU was unpacked.
    consumer: String,
    kernel: String,
    initramfs: String,
    accel: &'static str,
}

impl Common {
    fn new(accel: &'static str) -> Result<Self> {
        let parameter = |name| sys::kernel_parameter(name)?.with_context(|| format!("no {name}="));
        Ok(Self {
            consumer: parameter("vmtest.consumer")?,
            kernel: parameter("vmtest.kernel")?,
            initramfs: parameter("vmtest.initramfs")?,
            accel,
        })
    }
}

/// A QEMU. It ends with this.
struct Qemu {
    name: String,
    child: Child,
    qmp: Option<Qmp>,
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Qemu {
    /// Starts one, to boot a guest or to wait for one.
    fn start(common: &Common, name: &str, access: Access, vf: Bdf, incoming: bool) -> Result<Self> {
        let file = |kind: &str| format!("{DIR}/{name}.{kind}");
        for kind in ["qmp", "console", "report"] {
            let _ = fs::remove_file(format!("{ROOT}{}", file(kind)));
        }
        let share = format!("{}/usr/share", common.consumer);
        let log = File::create(format!("{ROOT}{}", file("log")))?;
        let mut command = in_root(&format!("{}/usr/bin/qemu-system-x86_64", common.consumer));
        command
            .env(
                "QEMU_MODULE_DIR",
                format!("{}/usr/lib/x86_64-linux-gnu/qemu", common.consumer),
            )
            .args(["-accel", common.accel, "-cpu", "qemu64"])
            .args(["-M", "q35", "-m", "192", "-nodefaults", "-no-user-config"])
            .args(["-display", "none", "-no-reboot"])
            .args([
                "-L",
                &format!("{share}/qemu"),
                "-L",
                &format!("{share}/seabios"),
            ])
            .args(["-serial", &format!("file:{}", file("console"))])
            .args(["-serial", &format!("file:{}", file("report"))])
            .args(["-qmp", &format!("unix:{},server=on,wait=off", file("qmp"))])
            .args(["-kernel", &common.kernel, "-initrd", &common.initramfs])
            .args([
                "-append",
                "console=ttyS0 quiet panic=-1 hugepages=1 kmemleak=off no_timer_check \
                 lockdep.prove_locking=0 vmtest.inner=1",
            ])
            .args(access.arguments(vf))
            .stdout(log.try_clone()?)
            .stderr(log);
        if incoming {
            command.args(["-incoming", "defer"]);
        }
        let mut qemu = Self {
            name: name.to_string(),
            child: command.spawn().context("qemu-system-x86_64")?,
            qmp: None,
        };
        let socket = format!("{ROOT}{}", file("qmp"));
        let begin = Instant::now();
        let stream = loop {
            match UnixStream::connect(&socket) {
                Ok(stream) => break stream,
                Err(err) => {
                    if qemu.child.try_wait()?.is_some() || begin.elapsed() > TIMEOUT {
                        bail!("{socket}: {err}\n{}", qemu.said());
                    }
                }
            }
            thread::sleep(POLL);
        };
        qemu.qmp = Some(Qmp::new(stream).with_context(|| qemu.said())?);
        Ok(qemu)
    }

    fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let qmp = self.qmp.as_mut().context("no QMP")?;
        let answer = qmp.execute(command, arguments);
        answer.with_context(|| format!("{}\n{}", self.name, self.said()))
    }

    fn text(&self, kind: &str) -> String {
        let bytes = fs::read(format!("{ROOT}{DIR}/{}.{kind}", self.name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What it and its guest have said last.
    fn said(&self) -> String {
        let mut said = Vec::new();
        for kind in ["log", "console", "report"] {
            let text = self.text(kind);
            let lines: Vec<&str> = text.lines().collect();
            for line in &lines[lines.len().saturating_sub(LAST_LINES)..] {
                said.push(format!("{}.{kind}: {line}", self.name));
            }
        }
        said.join("\n")
    }

    /// Waits for the guest to make `count` more reports.
    fn wait_for_reports(
        &mut self,
        results: &mut Results,
        count: usize,
        timeout: Duration,
    ) -> Result<()> {
        let lines = |text: String| text.bytes().filter(|byte| *byte == b'\n').count();
        let until = lines(self.text("report")) + count;
        let begin = Instant::now();
        let mut news = begin;
        loop {
            let text = self.text("report");
            ensure!(!text.contains("error"), "the guest found {text}");
            if lines(text) >= until {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("QEMU ended with {status}\n{}", self.said());
            }
            if begin.elapsed() > timeout {
                let status = self.execute("query-status", json!({}))?;
                bail!("the guest is silent; {status}\n{}", self.said());
            }
            if news.elapsed() > NEWS {
                news = Instant::now();
                results.progress(&format!(
                    "waiting for the guest since {}s",
                    begin.elapsed().as_secs()
                ));
            }
            thread::sleep(POLL);
        }
    }

    /// Prepares for a migration, on both sides.
    fn set_up_migration(&mut self) -> Result<()> {
        let capabilities: Vec<Value> = CAPABILITIES
            .iter()
            .map(|name| json!({ "capability": name, "state": true }))
            .collect();
        self.execute(
            "migrate-set-capabilities",
            json!({ "capabilities": capabilities }),
        )?;
        self.set_bandwidth(MAX_BANDWIDTH)
    }

    fn set_bandwidth(&mut self, bandwidth: u64) -> Result<()> {
        self.execute(
            "migrate-set-parameters",
            json!({ "max-bandwidth": bandwidth, "downtime-limit": DOWNTIME_LIMIT }),
        )?;
        Ok(())
    }

    /// Waits until the migration is in a state. Returns all about it.
    fn wait_for_migration(
        &mut self,
        results: &mut Results,
        what: &str,
        done: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let begin = Instant::now();
        let mut news = begin;
        loop {
            let info = self.execute("query-migrate", json!({}))?;
            if done(&info) {
                return Ok(info);
            }
            let status = info["status"].as_str().unwrap_or_default();
            if matches!(status, "completed" | "failed" | "cancelled") || begin.elapsed() > TIMEOUT {
                bail!(
                    "{} did not get to {what}: {info}\n{}",
                    self.name,
                    self.said()
                );
            }
            if news.elapsed() > NEWS {
                news = Instant::now();
                results.progress(&format!("{what}: {info}"));
            }
            thread::sleep(POLL);
        }
    }
}

fn channel() -> Value {
    json!({ "channels": [{
        "channel-type": "main",
        "addr": { "transport": "socket", "type": "unix", "path": format!("{DIR}/migration") },
    }] })
}

/// Checks that reports are the beginning of the one sequence that there is.
fn check_sequence(reports: &str) -> Result<()> {
    for (i, line) in (0..).zip(reports.lines()) {
        let expected = inner::report(i * inner::STEP);
        ensure!(
            line == expected,
            "after {i} reports the guest says {line:?} and not {expected:?}"
        );
    }
    Ok(())
}

/// A guest, wherever it is.
struct Guest<'a> {
    common: &'a Common,
    access: Access,
    /// The VF that it has, and the other one.
    vfs: (Bdf, Bdf),
    qemu: Qemu,
    /// What it has said in QEMUs that are gone.
    said: String,
    migrations: u32,
}

impl<'a> Guest<'a> {
    fn boot(
        results: &mut Results,
        common: &'a Common,
        access: Access,
        vfs: (Bdf, Bdf),
    ) -> Result<Self> {
        let name = format!("{}-0", access.name());
        let mut qemu = Qemu::start(common, &name, access, vfs.0, false)?;
        qemu.wait_for_reports(results, REPORTS, BOOT_TIMEOUT)?;
        qemu.set_up_migration()?;
        Ok(Self {
            common,
            access,
            vfs,
            qemu,
            said: String::new(),
            migrations: 0,
        })
    }

    /// Starts a QEMU for it to go to.
    fn destination(&mut self) -> Result<Qemu> {
        self.migrations += 1;
        let name = format!("{}-{}", self.access.name(), self.migrations);
        let mut qemu = Qemu::start(self.common, &name, self.access, self.vfs.1, true)?;
        qemu.set_up_migration()?;
        qemu.execute("migrate-incoming", channel())?;
        Ok(qemu)
    }

    /// Migrates it to the other VF.
    fn migrate(&mut self, results: &mut Results) -> Result<()> {
        let mut destination = self.destination()?;
        let outcome = self.migrate_to(results, &mut destination);
        let info = outcome.with_context(|| destination.said())?;
        let source = std::mem::replace(&mut self.qemu, destination);
        self.said += &source.text("report");
        // The VF is free when QEMU has ended.
        drop(source);
        self.vfs = (self.vfs.1, self.vfs.0);
        self.go_on(results)?;
        results.json(&json!({
            "qemu": self.access.name(),
            "accel": self.common.accel,
            "migration": self.migrations,
            "total_ms": info["total-time"],
            "downtime_ms": info["downtime"],
            "vfio_bytes": info["vfio"]["transferred"],
            "ram_bytes": info["ram"]["transferred"],
        }));
        Ok(())
    }

    fn migrate_to(&mut self, results: &mut Results, destination: &mut Qemu) -> Result<Value> {
        self.qemu.execute("migrate", channel())?;
        let completed = |info: &Value| info["status"] == "completed";
        let info = self
            .qemu
            .wait_for_migration(results, "completion", completed)?;
        destination.wait_for_migration(results, "completion", completed)?;
        let status = self.qemu.execute("query-status", json!({}))?;
        ensure!(
            status["status"] == "postmigrate" && status["running"] == false,
            "the source is not stopped: {status}"
        );
        ensure!(
            info["vfio"]["transferred"].as_u64() > Some(0),
            "nothing of the VF was transferred: {info}"
        );
        Ok(info)
    }

    /// Checks that it goes on, and has always gone on.
    fn go_on(&mut self, results: &mut Results) -> Result<()> {
        self.qemu.wait_for_reports(results, REPORTS, TIMEOUT)?;
        let mut reports = self.said.clone() + &self.qemu.text("report");
        // The last line may not be whole.
        reports.truncate(reports.rfind('\n').map_or(0, |end| end + 1));
        check_sequence(&reports)
    }

    /// Cancels a migration while both sides have a VF that is not stopped.
    fn cancel(&mut self, results: &mut Results) -> Result<()> {
        let destination = self.destination()?;
        self.qemu.set_bandwidth(LOW_BANDWIDTH)?;
        self.qemu.execute("migrate", channel())?;
        self.qemu.wait_for_migration(results, "pre-copy", |info| {
            info["status"] == "active" && info["vfio"]["transferred"].as_u64() > Some(0)
        })?;
        self.qemu.execute("migrate_cancel", json!({}))?;
        self.qemu
            .wait_for_migration(results, "its cancellation", |info| {
                info["status"] == "cancelled"
            })?;
        drop(destination);
        self.qemu.set_bandwidth(MAX_BANDWIDTH)?;
        self.go_on(results)
    }
}

/// Everything that is done with a VF in one way.
fn run_access(results: &mut Results, common: &Common, access: Access, vfs: (Bdf, Bdf)) {
    let mut guest = None;
    results.test(
        &format!("{}: a guest works with its VF", access.name()),
        |results| {
            guest = Some(Guest::boot(results, common, access, vfs)?);
            Ok(())
        },
    );
    type Step = fn(&mut Guest<'_>, &mut Results) -> Result<()>;
    let steps: [(&str, Step); 5] = [
        ("it migrates to another VF", |g, results| g.migrate(results)),
        ("it migrates back", |g, results| g.migrate(results)),
        ("its migration is cancelled", |g, results| g.cancel(results)),
        ("it migrates after that", |g, results| g.migrate(results)),
        ("it migrates back once more", |g, results| {
            g.migrate(results)
        }),
    ];
    for (name, step) in steps {
        results.test(&format!("{}: {name}", access.name()), |results| {
            let guest = guest.as_mut().context("there is no guest")?;
            step(guest, results)
        });
    }
}

/// Loads KVM. What there is where the hardware has nothing for it is emulation.
fn accel() -> Result<&'static str> {
    sys::load_module("/lib/modules/kvm.ko", "")?;
    let loads = |name: &str| sys::load_module(&format!("/lib/modules/{name}.ko"), "").is_ok();
    Ok(match loads("kvm_amd") || loads("kvm_intel") {
        true => "kvm",
        false => "tcg",
    })
}

pub fn run(results: &mut Results) -> Result<()> {
    if !fs::exists("/dev/iommu")? {
        results.skip(
            "QEMU migrates a guest with a VF",
            "the kernel has no iommufd",
        );
        return Ok(());
    }
    let common = Common::new(accel()?)?;
    let vfs = Bench::new()?.of(Driver::Rust);
    host::mount()?;
    for access in [Access::Iommufd, Access::Container] {
        run_access(results, &common, access, vfs);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_that_is_lost_or_repeated_is_noticed() {
        let line = |i: u64| inner::report(i * inner::STEP) + "\n";
        assert!(check_sequence(&(line(0) + &line(1) + &line(2))).is_ok());
        assert!(check_sequence(&(line(0) + &line(2))).is_err());
        assert!(check_sequence(&(line(0) + &line(0))).is_err());
        assert!(check_sequence(&line(1)).is_err());
        assert!(check_sequence(&(line(0) + "round 8 se")).is_err());
    }
}

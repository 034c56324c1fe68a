// SPDX-License-Identifier: GPL-2.0

//! What an operator does, on two hosts: machines that boot a Debian from a disk, in which the
//! packages of the checkout are installed. `operator/operate.sh` runs in the first one, and gets
//! to the other by ssh.

use crate::{
    accel::Accel,
    children,
    command::{
        CONSOLE,
        RESULTS,
        VIOLATIONS, //
    },
    machine::{
        self,
        Outcome, //
    },
    monitor,
    paths::Paths,
    tap::{
        News,
        Test, //
    },
    watchdog, //
};
use anyhow::{
    Context,
    Result, //
};
use std::{
    fs::{
        self,
        File, //
    },
    path::{
        Path,
        PathBuf, //
    },
    process::{
        Child,
        Command, //
    },
    time::Duration, //
};
use vm_common::kernel::Kernel;

/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(7200);
/// How long the other host may take to shut down after the first one.
const SHUTDOWN: Duration = Duration::from_secs(300);
/// MiB of memory of each host: a Debian, and a guest in huge pages.
const MEMORY: &str = "2560";
/// Huge pages of a host: the guest's, and as many for one that arrives before the other ends.
const HUGE_PAGES: u32 = 200;

/// A host: 1 or 2. Its addresses are derived from its number.
#[derive(Clone, Copy)]
struct Host(u8);

impl Host {
    const BOTH: [Self; 2] = [Self(1), Self(2)];

    fn name(self) -> String {
        format!("host{}", self.0)
    }

    /// An end of a wire between the hosts, in the folder that theirs are in.
    fn wire(self, name: &str) -> String {
        let (here, there) = (self.0, 3 - self.0);
        format!(
            "dgram,id={name},local.type=unix,local.path=../{name}{here},\
             remote.type=unix,remote.path=../{name}{there}"
        )
    }

    /// QEMU with this host, whose logs go to `dir`.
    fn command(self, paths: &Paths, accel: Accel, dir: &Path) -> Command {
        let Self(number) = self;
        let files = paths.build.join("operator");
        // What it is told apart by: libvirt refuses to migrate to a host of the same UUID.
        let uuid = format!("6e2a1c55-7f4b-4a77-9e6c-00000000000{number}");
        let mac = |adapter: u8| format!("mac=52:54:00:00:0{number}:0{adapter}");
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.current_dir(dir)
            .env("LD_PRELOAD", paths.build.join("mlx5-emu.so"))
            .args(accel.args())
            .args(["-M", "q35,kernel-irqchip=split", "-smp", "1"])
            .args(["-m", MEMORY, "-uuid", &uuid])
            .args(["-nodefaults", "-no-reboot", "-display", "none"])
            .args(["-device", "intel-iommu,intremap=on,aw-bits=48"])
            .args(["-netdev", &self.wire("link")])
            .arg("-device")
            .arg(format!("virtio-net-pci,netdev=link,{}", mac(1)))
            .args(["-netdev", &self.wire("wire"), "-device"])
            .arg("pcie-root-port,id=rp,bus=pcie.0,chassis=1,pref64-reserve=128M")
            .arg("-device")
            .arg(format!(
                "mlx5-emu,bus=rp,netdev=wire,{},num-vfs=4,event-log=commands.log,\
                 violations-log={VIOLATIONS}",
                mac(2)
            ))
            // What it writes is gone when it ends.
            .arg("-drive")
            .arg(format!(
                "file={},format=raw,if=virtio,snapshot=on",
                files.join("disk.img").display()
            ))
            .arg("-fsdev")
            .arg(format!(
                "local,id=operator,path={},security_model=none,readonly=on",
                paths.plain_top.display()
            ))
            .args(["-device", "virtio-9p-pci,fsdev=operator,mount_tag=operator"])
            .args(["-serial", &format!("file:{CONSOLE}")])
            .args(["-serial", &format!("file:{RESULTS}")])
            .arg("-kernel")
            .arg(files.join("vmlinuz"))
            .arg("-initrd")
            .arg(files.join("initrd"))
            .arg("-append")
            .arg(format!(
                "root=/dev/vda rw console=ttyS0 intel_iommu=on quiet loglevel=7 panic=-1 \
                 no_timer_check transparent_hugepage=never hugepages={HUGE_PAGES} \
                 systemd.hostname={} systemd.condition_first_boot=0 {}",
                self.name(),
                if number == 1 { "operator" } else { "" }
            ));
        qemu
    }

    fn start(self, paths: &Paths, accel: Accel, dir: &Path) -> Result<Child> {
        fs::create_dir_all(dir)?;
        let log = File::create(dir.join("qemu.log"))?;
        let mut qemu = self.command(paths, accel, dir);
        children::bind(monitor::add(&mut qemu, dir)?)
            .stderr(log)
            .spawn()
            .context("starting qemu-system-x86_64")
    }
}

/// Where the logs of both hosts are.
fn dir(paths: &Paths) -> PathBuf {
    paths.out().join("operator")
}

/// Has the operator do everything. `hear` gets what is said until then.
pub fn run(paths: &Paths, accel: Accel, mut hear: impl FnMut(News<'_>)) -> Result<Outcome> {
    let dir = dir(paths);
    let _ = fs::remove_dir_all(&dir);
    let dirs = Host::BOTH.map(|host| dir.join(host.name()));
    hear(News::Progress("booting two hosts"));
    let mut second = Host(2).start(paths, accel, &dirs[1])?;
    let mut first = Host(1).start(paths, accel, &dirs[0])?;
    let limits = |limit| watchdog::Limits::of(limit, false, Kernel::Stock, watchdog::Until::End);
    let end = watchdog::wait(&mut first, &dirs[0], &limits(LIMIT), &mut hear)?;
    if end.stopped.is_some() {
        // Nobody tells it to shut down.
        second.kill()?;
    }
    let other = watchdog::wait(&mut second, &dirs[1], &limits(SHUTDOWN), &mut hear)?;
    let mut outcome = machine::judge(dirs[0].clone(), end);
    outcome.busy += other.busy;
    let of_other = machine::judge_logs(&dirs[1]);
    outcome.tests.extend(of_other.into_iter().map(|test| Test {
        name: format!("{}: {}", Host(2).name(), test.name),
        ..test
    }));
    outcome.dir = dir;
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wires_have_two_ends() {
        let [first, second] = Host::BOTH.map(|host| host.wire("link"));
        assert!(first.contains("local.path=../link1,") && first.ends_with("remote.path=../link2"));
        assert!(
            second.contains("local.path=../link2,") && second.ends_with("remote.path=../link1")
        );
    }
}

// SPDX-License-Identifier: GPL-2.0

//! One process of the tool at a time changes an adapter: else, one would undo what another one has
//! just done. The lock is that of the PF's folder, and goes with the process.

use super::{
    pci_dir,
    plan::{
        Tell,
        Told, //
    },
    Host, //
};
use crate::{
    bdf::Bdf,
    error::{
        Context,
        Error, //
    },
    interrupt, //
};
use nix::{
    errno::Errno,
    fcntl::{
        Flock,
        FlockArg, //
    },
};
use std::{
    fs::File,
    io, //
};

/// As long as it exists, no other process of the tool changes a PF and its VFs.
pub struct Lock {
    _locked: Flock<File>,
}

impl Lock {
    /// Locks a PF. Says so if that has to wait.
    pub fn of(host: &Host, pf: Bdf, tell: &mut Tell<'_>) -> Result<Self, Error> {
        let dir = pci_dir(pf);
        let what = || format!("locking {}", dir.display());
        let mut file = File::open(host.at(&dir)).context(what())?;
        let mut how = FlockArg::LockExclusiveNonblock;
        loop {
            file = match Flock::lock(file, how) {
                Ok(locked) => return Ok(Self { _locked: locked }),
                Err((file, Errno::EWOULDBLOCK)) => {
                    tell(Told::Waiting(&format!(
                        "another vfio-mig changes {pf} or its VFs: this one goes on when that has \
                         ended"
                    )))?;
                    how = FlockArg::LockExclusive;
                    file
                }
                Err((file, Errno::EINTR)) => {
                    interrupt::check()?;
                    file
                }
                Err((_, errno)) => return Err(io::Error::from(errno)).context(what()),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            binding,
            fake::{
                pf,
                vf,
                Fake, //
            },
            plan::{
                Mode,
                Plan, //
            },
            setup,
            usage::Force, //
        },
        *, //
    };

    #[test]
    fn a_second_one_waits_for_the_first() {
        let fake = Fake::new("lock");
        let host = fake.host();
        let mut silent = |told: Told<'_>| panic!("{told:?}");
        let mut held = Some(Lock::of(&host, pf(), &mut silent).unwrap());
        let mut said = Vec::new();
        let mut tell = |told: Told<'_>| {
            held = None;
            said.push(format!("{told:?}"));
            Ok(())
        };
        let second = Lock::of(&host, pf(), &mut tell).unwrap();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("another vfio-mig changes 0000:01:00.0"));
        drop(second);
        Lock::of(&host, pf(), &mut silent).unwrap();
        fake.remove("/sys/bus/pci/devices/0000:01:00.0");
        let err = Lock::of(&host, pf(), &mut silent).err().unwrap();
        assert_eq!(err.errno(), Some(libc::ENOENT));
    }

    /// Whether `work` has waited for another process, which ends then.
    fn has_waited(
        host: &Host,
        mode: Mode,
        work: impl FnOnce(&mut Plan<'_>) -> Result<(), Error>,
    ) -> bool {
        let mut held = Some(Lock::of(host, pf(), &mut |_| Ok(())).unwrap());
        let mut tell = |told: Told<'_>| {
            if matches!(told, Told::Waiting(_)) {
                held = None;
            }
            Ok(())
        };
        let mut plan = Plan::new(host, mode, &mut tell);
        let worked = work(&mut plan);
        // No kernel is behind the files of this host, so this may have failed later.
        let _ = plan.end(worked);
        held.is_none()
    }

    #[test]
    fn each_change_waits() {
        let fake = Fake::new("locks");
        let host = fake.host();
        let wanted = setup::Wanted {
            vfs: 2,
            switchdev: false,
            driver: None,
            force: Force::No,
        };
        let no = Force::No;
        let driver = "mlx5_vfio_pci_rust";
        for (mode, waits) in [(Mode::Show, false), (Mode::Do, true)] {
            let waited = [
                has_waited(&host, mode, |plan| {
                    setup::setup(plan, pf(), &wanted).map(drop)
                }),
                has_waited(&host, mode, |plan| setup::undo(plan, pf(), false, no)),
                has_waited(&host, mode, |plan| binding::bind(plan, &[vf()], driver, no)),
                has_waited(&host, mode, |plan| binding::unbind(plan, &[vf()])),
            ];
            assert_eq!(waited, [waits; 4], "{mode:?}");
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! The requests whose firmware commands fail.

use super::session::{
    other,
    Session, //
};
use crate::{
    fault::opcode,
    hca::{
        Driver,
        Pf, //
    },
    scenarios::compare::errno_name, //
};
use std::io;
use vfio_mig::state::State;
use vm_common::names;

/// A request: how to get ready, and what it does.
pub(in crate::scenarios) struct Path {
    pub(in crate::scenarios) name: &'static str,
    /// The states that the device is in before, one after the other.
    before: &'static [State],
    ready: fn(&mut Session) -> io::Result<()>,
    pub(in crate::scenarios) work: fn(&mut Session) -> io::Result<()>,
    /// Its commands that fail.
    opcodes: &'static [u16],
    /// How many of each of them.
    pub(super) most: u32,
    errors: Errors,
    /// What the C driver does not survive.
    c: OfC,
}

/// Which commands of a request may fail with the C driver.
enum OfC {
    All,
    /// Only these, for the reason.
    These(&'static [u16], &'static str),
}

/// The errors of a request, besides the one that mlx5_core makes of a command's status.
enum Errors {
    /// None.
    OfStatus,
    /// A read has another one.
    OrOfRead,
    /// Those that promise that the same call may succeed later are replaced, but not by the C
    /// driver.
    Final,
}

/// Those that a driver of VFs sends if the PF goes: mlx5_core sends others.
const TEARDOWN: &[u16] = &[
    opcode::DESTROY_GENERAL_OBJECT,
    opcode::DESTROY_MKEY,
    opcode::DESTROY_CQ,
    opcode::DESTROY_QP,
    opcode::DEALLOC_PD,
];

/// No request sends as many commands.
const MOST: u32 = 100;

const PATH: Path = Path {
    name: "",
    before: &[],
    ready: |_| Ok(()),
    work: |_| Ok(()),
    opcodes: &[opcode::ANY],
    most: MOST,
    errors: Errors::OfStatus,
    c: OfC::All,
};

/// The commands that leave pre-copy, without the SAVE that ends it.
const NO_SAVE: OfC = OfC::These(
    &[
        opcode::QUERY_VHCA_MIGRATION_STATE,
        opcode::DESTROY_MKEY,
        opcode::DEALLOC_PD,
    ],
    "if the SAVE that ends tracking is refused, it cancels the work that would have given the \
     buffer and the file back, and takes the arc for successful: firmware tracks on, the \
     buffer is lost, and the module cannot be unloaded",
);

/// An arc of the state machine.
const fn arc(
    name: &'static str,
    before: &'static [State],
    work: fn(&mut Session) -> io::Result<()>,
) -> Path {
    Path {
        name,
        before,
        work,
        ..PATH
    }
}

/// One that leaves a state of the saving group, when all was read.
const fn saving_arc(
    name: &'static str,
    before: &'static [State],
    work: fn(&mut Session) -> io::Result<()>,
) -> Path {
    Path {
        ready: Session::read_all,
        ..arc(name, before, work)
    }
}

/// The error of a read if a SAVE has failed.
pub(super) const OF_READ: &str = "ENODEV";

use State as S;

/// All.
pub(in crate::scenarios) const ALL: &[Path] = &[
    Path {
        name: "binding",
        ready: |session| {
            session.close()?;
            session.unbind()
        },
        work: Session::bind,
        ..PATH
    },
    arc("RUNNING to RUNNING_P2P", &[], |s| s.set(S::RUNNING_P2P)),
    arc("RUNNING_P2P to RUNNING", &[S::RUNNING_P2P], |s| {
        s.set(S::RUNNING)
    }),
    arc("RUNNING_P2P to STOP", &[S::RUNNING_P2P], |s| s.set(S::STOP)),
    arc("STOP to RUNNING_P2P", &[S::STOP], |s| s.set(S::RUNNING_P2P)),
    arc("STOP to STOP_COPY", &[S::STOP], |s| s.set(S::STOP_COPY)),
    saving_arc("STOP_COPY to STOP", &[S::STOP_COPY], |s| s.set(S::STOP)),
    arc("STOP to RESUMING", &[S::STOP], |s| s.set(S::RESUMING)),
    Path {
        ready: Session::write_all,
        ..arc("RESUMING to STOP", &[S::RESUMING], |s| s.set(S::STOP))
    },
    arc("RUNNING to PRE_COPY", &[], |s| s.set(S::PRE_COPY)),
    arc("RUNNING_P2P to PRE_COPY_P2P", &[S::RUNNING_P2P], |s| {
        s.set(S::PRE_COPY_P2P)
    }),
    Path {
        c: NO_SAVE,
        ..saving_arc("PRE_COPY to RUNNING", &[S::PRE_COPY], |s| s.set(S::RUNNING))
    },
    saving_arc("PRE_COPY to PRE_COPY_P2P", &[S::PRE_COPY], |s| {
        s.set(S::PRE_COPY_P2P)
    }),
    saving_arc("PRE_COPY_P2P to PRE_COPY", &[S::PRE_COPY_P2P], |s| {
        s.set(S::PRE_COPY)
    }),
    Path {
        c: NO_SAVE,
        ..saving_arc("PRE_COPY_P2P to RUNNING_P2P", &[S::PRE_COPY_P2P], |s| {
            s.set(S::RUNNING_P2P)
        })
    },
    saving_arc("PRE_COPY_P2P to STOP_COPY", &[S::PRE_COPY_P2P], |s| {
        s.set(S::STOP_COPY)
    }),
    arc("RUNNING to STOP_COPY", &[], |s| s.set(S::STOP_COPY)),
    arc("RUNNING to RESUMING", &[], |s| s.set(S::RESUMING)),
    saving_arc("STOP_COPY to RUNNING", &[S::STOP_COPY], |s| {
        s.set(S::RUNNING)
    }),
    Path {
        ready: Session::write_all,
        ..arc("RESUMING to RUNNING", &[S::RESUMING], |s| s.set(S::RUNNING))
    },
    Path {
        name: "a save that is read",
        before: &[S::STOP],
        work: |session| {
            session.set(S::STOP_COPY)?;
            session.read_all()
        },
        errors: Errors::OrOfRead,
        ..PATH
    },
    Path {
        name: "a write of a whole stream",
        before: &[S::RESUMING],
        work: Session::write_all,
        errors: Errors::Final,
        ..PATH
    },
    Path {
        name: "PRECOPY_INFO after work",
        before: &[S::PRE_COPY],
        ready: |session| {
            session.opt_in()?;
            session.read_all()?;
            session.work()
        },
        work: |session| {
            session.info()?;
            session.read_all()?;
            session.info()
        },
        errors: Errors::OrOfRead,
        ..PATH
    },
    Path {
        name: "pre-copy to its end",
        work: |session| {
            session.set(S::PRE_COPY)?;
            session.info()?;
            session.work()?;
            session.read_all()?;
            session.info()?;
            session.set(S::STOP_COPY)?;
            session.read_all()
        },
        errors: Errors::OrOfRead,
        ..PATH
    },
    Path {
        name: "DATA_SIZE",
        work: Session::data_size,
        ..PATH
    },
    Path {
        name: "starting DMA logging",
        work: Session::start_logging,
        ..PATH
    },
    Path {
        name: "a report of dirty pages",
        ready: |session| {
            session.start_logging()?;
            session.work()
        },
        work: Session::report,
        ..PATH
    },
    Path {
        // Reports take long enough in these machines for the C driver, which only looks at the
        // tracker when it has waited for a message.
        name: "a report after OBJECT_CHANGE",
        ready: |session| {
            session.start_logging()?;
            session.work()?;
            session.change_tracker()
        },
        work: Session::report,
        ..PATH
    },
    Path {
        name: "stopping DMA logging",
        ready: Session::start_logging,
        work: Session::stop_logging,
        ..PATH
    },
    Path {
        name: "a reset in STOP_COPY",
        before: &[S::STOP_COPY],
        ready: Session::read_all,
        work: Session::reset,
        ..PATH
    },
    Path {
        name: "a reset in RESUMING",
        before: &[S::RESUMING],
        ready: Session::write_all,
        work: Session::reset,
        ..PATH
    },
    Path {
        name: "closing in PRE_COPY with DMA logging",
        before: &[S::PRE_COPY],
        ready: |session| {
            session.start_logging()?;
            session.read_all()
        },
        work: Session::close,
        ..PATH
    },
    Path {
        name: "closing in RESUMING",
        before: &[S::RESUMING],
        ready: Session::write_all,
        work: Session::close,
        ..PATH
    },
    Path {
        name: "unbinding",
        ready: Session::close,
        work: |session| {
            session.unbind()?;
            session.bind()
        },
        ..PATH
    },
    Path {
        name: "reloading the PF in STOP_COPY with DMA logging",
        before: &[S::STOP_COPY],
        ready: |session| {
            session.start_logging()?;
            session.read_all()
        },
        work: |session| {
            let reloaded = Pf::find().and_then(|pf| pf.reload());
            reloaded.map_err(other)?;
            session.close_ended()
        },
        opcodes: TEARDOWN,
        // It takes seconds.
        most: 1,
        ..PATH
    },
];

impl Path {
    /// Gets the VF ready.
    pub(in crate::scenarios) fn get_ready(&self, session: &mut Session) -> io::Result<()> {
        for state in self.before {
            session.set(*state)?;
        }
        (self.ready)(session)
    }

    /// Whether `only` may choose a command of it.
    pub(super) fn may_be_chosen(&self, driver: Driver, only: &str) -> bool {
        let title = names::parameter(&format!("{} driver, {},", driver.name(), self.name));
        !only.contains(",-command-") || only.starts_with(&title)
    }

    /// Its commands that fail with a driver.
    pub(super) fn opcodes(&self, driver: Driver) -> &'static [u16] {
        match (driver, &self.c) {
            (Driver::C, OfC::These(opcodes, _)) => opcodes,
            _ => self.opcodes,
        }
    }

    /// Why only these fail with a driver, if it does not survive others.
    pub(super) fn reason(&self, driver: Driver) -> Option<&'static str> {
        match (driver, &self.c) {
            (Driver::C, OfC::These(_, reason)) => Some(reason),
            _ => None,
        }
    }

    /// Whether all of its commands can fail, whichever they are.
    pub(super) fn is_of_driver(&self) -> bool {
        self.opcodes == [opcode::ANY]
    }

    /// Whether the request may end so, if a command fails with a status for which mlx5_core's
    /// error is `errno`.
    pub(super) fn may_end(&self, driver: Driver, result: &str, errno: i32) -> bool {
        let of_status = match (&self.errors, driver, errno) {
            (Errors::Final, Driver::Rust, libc::EAGAIN | libc::EBUSY) => libc::EIO,
            _ => errno,
        };
        result == "ok"
            || result == errno_name(of_status)
            || matches!(self.errors, Errors::OrOfRead) && result == OF_READ
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_say_which_arc_it_is() {
        for (i, path) in ALL.iter().enumerate() {
            assert!(ALL[..i].iter().all(|other| other.name != path.name));
        }
        for (from, to) in [("STOP", "STOP_COPY"), ("PRE_COPY_P2P", "STOP_COPY")] {
            let name = format!("{from} to {to}");
            assert!(ALL.iter().any(|path| path.name == name), "{name}");
        }
    }

    #[test]
    fn an_error_is_that_of_the_status() {
        let path = |name| ALL.iter().find(|path| path.name == name).unwrap();
        let may = |path: &Path, result, errno| path.may_end(Driver::Rust, result, errno);
        let arc = path("STOP to STOP_COPY");
        assert!(may(arc, "ok", libc::EIO) && may(arc, "EBUSY", libc::EBUSY));
        assert!(!may(arc, "EIO", libc::EBUSY) && !may(arc, "ENODEV", libc::EIO));
        assert!(may(path("a save that is read"), "ENODEV", libc::EIO));
        let write = path("a write of a whole stream");
        assert!(may(write, "EIO", libc::EAGAIN) && !may(write, "EAGAIN", libc::EAGAIN));
        assert!(write.may_end(Driver::C, "EAGAIN", libc::EAGAIN));
        assert!(may(write, "EINVAL", libc::EINVAL));
    }
}

// SPDX-License-Identifier: GPL-2.0

//! The table of faults that a device has while QEMU migrates it.
//!
//! Init has a function for each, and the host wants a result of each.

/// What a guest sees of a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expected {
    /// Nothing.
    Intact,
    /// Its VF was reset, once. Memory is as the VF left it.
    OneReset,
    /// Its VF was unplugged, in order.
    VfRemoved,
}

impl Expected {
    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Intact => "intact",
            Self::OneReset => "one reset of its VF",
            Self::VfRemoved => "VF removed",
        }
    }

    /// How often the guest's VF is reset.
    pub const fn resets(self) -> usize {
        match self {
            Self::Intact | Self::VfRemoved => 0,
            Self::OneReset => 1,
        }
    }
}

/// What is known of the C driver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OfC {
    /// The same as of ours.
    Same,
    /// QEMU resets the guest's VF, once, and why.
    Resets(&'static str),
    /// The migration completes, without the state of the VF, and why.
    Loses(&'static str),
    /// It cannot be tried, and why.
    NotRun(&'static str),
}

/// A fault.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// What goes wrong.
    pub name: &'static str,
    /// What the guest sees.
    pub expected: Expected,
    /// Whether the migration completes, and the guest goes on in the destination. It goes
    /// on in the source otherwise.
    pub completes: bool,
    /// Whether it is part of `make check`.
    pub quick: bool,
    /// Whether `make check-net` has it, too.
    pub streams: bool,
    /// What is different with the C driver.
    pub c: OfC,
}

const fn intact(name: &'static str) -> Fault {
    Fault {
        name,
        expected: Expected::Intact,
        completes: false,
        quick: false,
        streams: false,
        c: OfC::Same,
    }
}

const fn one_reset(name: &'static str) -> Fault {
    Fault {
        expected: Expected::OneReset,
        ..intact(name)
    }
}

/// An unbind waits for the VFs to be given back, which no QEMU does that migrates: it
/// migrates, and then gives back the VF that the guest has by then.
const fn vf_removed(name: &'static str) -> Fault {
    Fault {
        expected: Expected::VfRemoved,
        completes: true,
        ..intact(name)
    }
}

/// Why the C driver is left with nothing but a reset.
const SAVE_FAILED: &str = "a SAVE that failed in pre-copy lets it go to no other state";

/// Why the C driver is not tried with a transfer that is too late.
const FREED: &str = "it frees the memory that firmware uses yet";

/// mlx5_core has stopped to wait for a SAVE or a LOAD before firmware answers.
const fn late_transfer(fault: Fault) -> Fault {
    let c = OfC::NotRun(FREED);
    Fault { c, ..fault }
}

/// It is also tried with a guest whose own driver streams through its VF.
const fn with_streams(fault: Fault) -> Fault {
    Fault {
        streams: true,
        ..fault
    }
}

/// All of them.
pub const ALL: &[Fault] = &[
    Fault {
        c: OfC::Resets(SAVE_FAILED),
        ..intact("SAVE of the first image")
    },
    Fault {
        c: OfC::Resets(SAVE_FAILED),
        ..with_streams(intact("SAVE of an incremental image"))
    },
    Fault {
        quick: true,
        ..with_streams(intact("SAVE of the last image"))
    },
    Fault {
        completes: true,
        ..intact("first image cannot be saved yet")
    },
    intact("LOAD of the first image"),
    // The source must not stop the guest before that.
    Fault {
        completes: true,
        quick: true,
        ..with_streams(intact("LOAD of the first image takes 5 seconds"))
    },
    with_streams(intact("LOAD of an incremental image")),
    Fault {
        quick: true,
        ..with_streams(intact("LOAD of the last image"))
    },
    one_reset("SUSPEND of the source's initiator"),
    one_reset("SUSPEND of the source's responder"),
    // It is not the guest's VF that is reset.
    with_streams(intact("SUSPEND of the destination's initiator")),
    intact("SUSPEND of the destination's responder"),
    // When the migration is cancelled in stop-copy.
    with_streams(one_reset("RESUME of the source's responder")),
    one_reset("RESUME of the source's initiator"),
    Fault {
        completes: true,
        ..one_reset("RESUME of the destination's responder")
    },
    Fault {
        completes: true,
        ..with_streams(one_reset("RESUME of the destination's initiator"))
    },
    intact("CREATE_MKEY for the page tracker"),
    intact("CREATE_MKEY for the first SAVE"),
    intact("CREATE_MKEY for the first LOAD"),
    with_streams(intact("page tracker in error")),
    intact("page tracker says that it failed"),
    intact("page tracker's QP fails"),
    intact("page tracker's CQ fails"),
    Fault {
        c: OfC::NotRun("it waits for the report for ever, and cannot be killed"),
        ..intact("page tracker is silent")
    },
    // It may yet track the VF: see "Differences from the C driver".
    late_transfer(one_reset("SAVE of the first image is too late")),
    late_transfer(one_reset("SAVE of an incremental image is too late")),
    with_streams(late_transfer(intact("SAVE of the last image is too late"))),
    with_streams(late_transfer(intact("LOAD of the last image is too late"))),
    with_streams(one_reset("SUSPEND of the initiator is too late")),
    intact("page tracker reports too late"),
    Fault {
        completes: true,
        ..intact("DESTROY_MKEY is too late")
    },
    one_reset("guest resets its VF in pre-copy"),
    one_reset("PF reloaded in pre-copy"),
    one_reset("PF reloaded in stop-copy"),
    Fault {
        c: OfC::Loses("its write() does not tell of a LOAD that the reload has ended"),
        ..one_reset("PF reloaded in RESUMING")
    },
    vf_removed("PF unbound in pre-copy"),
    vf_removed("PF unbound in stop-copy"),
    vf_removed("PF unbound in RESUMING"),
];

/// The fault with a name.
pub fn find(name: &str) -> Option<&'static Fault> {
    ALL.iter().find(|fault| fault.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_each_side_has_a_quick_one() {
        for (i, fault) in ALL.iter().enumerate() {
            assert!(ALL[..i].iter().all(|other| other.name != fault.name));
        }
        let quick = |side: &str| ALL.iter().any(|f| f.quick && f.name.starts_with(side));
        assert!(quick("SAVE") && quick("LOAD"));
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Drivers whose devices the selftests are run on: what they skip, and what they fail.

/// A test that a driver is known to fail.
pub struct Known {
    /// Its name, behind that of its fixture.
    pub test: &'static str,
    /// What the driver does.
    pub why: &'static str,
    /// Whether it may also pass.
    pub sometimes: bool,
}

/// A driver, with a device or two.
pub struct Subject {
    /// What its results begin with.
    pub name: &'static str,
    /// Programs and tests that have nothing to test on its devices, and why.
    pub skipped: &'static [(&'static str, &'static str)],
    /// What its devices lack: how the reasons end for which tests are skipped.
    pub lacks: &'static [&'static str],
    /// Tests that it is known to fail.
    pub known: &'static [Known],
    /// What the kernel may complain of when its devices migrate.
    pub complaints: &'static [&'static str],
}

impl Subject {
    /// Returns the known failure of a test, whose name is "PROGRAM: FIXTURE.TEST".
    pub fn known(&self, name: &str) -> Option<&'static Known> {
        let (_, test) = name.split_once('.')?;
        self.known.iter().find(|known| known.test == test)
    }

    /// Returns why a test may be skipped for `reason`: what was expected.
    pub fn may_skip(&self, name: &str, reason: &str) -> Option<&'static str> {
        let lack = self.lacks.iter().find(|lack| reason.ends_with(**lack));
        let by_name = self.skipped.iter().find(|(skipped, _)| *skipped == name);
        lack.copied().or(by_name.map(|(_, why)| *why))
    }
}

const fn always(test: &'static str, why: &'static str) -> Known {
    Known {
        test,
        why,
        sometimes: false,
    }
}

/// Firmware refuses to load a state that is none.
const REFUSED: &str = "LOAD_VHCA_STATE";

/// A VF of our driver, with all of the kernel's selftests.
pub const ALL: Subject = Subject {
    name: "",
    skipped: &[
        (
            "vfio_pci_device_test: vfio_pci_irq_test.msi.enable_trigger_disable",
            "these VFs have MSI-X only",
        ),
        (
            "vfio_pci_driver_test",
            "libvfio drives devices that copy memory (DSA, IOAT, Falcon, igb), and has nothing \
             for this",
        ),
        (
            "vfio_pci_sriov_uapi_test",
            "tests VF tokens on a PF that is bound to vfio-pci; this is a VF",
        ),
    ],
    lacks: &[],
    known: &[],
    complaints: &[REFUSED],
};

/// A single VF of our driver.
pub const ONE: Subject = Subject {
    name: "one VF: ",
    skipped: &[],
    lacks: &[],
    known: &[],
    complaints: &[REFUSED],
};

/// Two VFs of our driver.
pub const OURS: Subject = Subject {
    name: "mlx5_vfio_pci_rust: ",
    ..ONE
};

/// What the C driver does with a state that is none: `tools/vfio-mig/expectations` has more of
/// it.
const ANY_STATE: &str = "RESUMING -> STOP succeeds with a state that was refused, or is incomplete";
const ONE_FIELD: &str = "PRECOPY_INFO sets one of initial_bytes and dirty_bytes";

/// The C driver's data files copy to user memory under a lock that a reset takes, too: lockdep
/// says so once a BAR was mapped for DMA, and then nothing more.
const LOCK_ORDER: &str = "possible circular locking dependency detected";

/// The C driver.
pub const C: Subject = Subject {
    name: "mlx5_vfio_pci: ",
    skipped: &[],
    lacks: &["invalid data do not lead to ERROR"],
    known: &[
        always("resume_incomplete", ANY_STATE),
        always("resume_garbage", ANY_STATE),
        always("resume_inconsistent", ANY_STATE),
        always("PRE_COPY.info_is_output", ONE_FIELD),
        always("PRE_COPY_P2P.info_is_output", ONE_FIELD),
        Known {
            test: "PRE_COPY_P2P.initial_bytes",
            why: "PRECOPY_INFO does not wait for the first image in PRE_COPY_P2P",
            sometimes: true,
        },
    ],
    complaints: &[REFUSED, LOCK_ORDER],
};

/// The same with the fixes of `tools/series/fixes`.
pub const FIXED_C: Subject = Subject {
    lacks: &[],
    known: &[],
    complaints: &[REFUSED],
    ..C
};

/// Our sample.
pub const SAMPLE: Subject = Subject {
    name: "vfio_ivshmem_rust: ",
    skipped: &[],
    lacks: &[
        "does not support RUNNING_P2P",
        "does not support PRE_COPY",
        "does not support PRE_COPY_P2P",
        "does not support DMA logging",
    ],
    known: &[],
    complaints: &[],
};

const NO_ENOMSG: &str = "read() returns 0 at the temporary end of the stream";
const NO_POLL: &str = "the file has no poll, so it is always readable";
const NO_LOGGING: &str = "DMA logging is a stub that always succeeds";

/// The kernel's sample of a mediated device.
pub const MTTY: Subject = Subject {
    name: "mtty: ",
    skipped: &[],
    lacks: &["invalid data do not lead to ERROR"],
    known: &[
        always("reopen", "the state survives close"),
        always(
            "resume_garbage",
            "a header that write() has refused counts as written, so that RESUMING -> STOP \
             succeeds",
        ),
        always("PRE_COPY.temporary_end", NO_ENOMSG),
        always("PRE_COPY_P2P.temporary_end", NO_ENOMSG),
        always("PRE_COPY.poll", NO_POLL),
        always("PRE_COPY_P2P.poll", NO_POLL),
        always("start_twice", NO_LOGGING),
        always("report_without_start", NO_LOGGING),
    ],
    complaints: &[],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_failure_is_that_of_one_test() {
        let known = |name: &str| C.known(name).map(|known| known.test);
        let test = "PRE_COPY.info_is_output";
        assert_eq!(known(&format!("program: fixture.{test}")), Some(test));
        assert_eq!(known("program: fixture.PRE_COPY.info_argsz"), None);
        assert_eq!(known("program"), None);
    }

    #[test]
    fn a_skip_is_allowed_by_its_reason_or_by_name() {
        let reason = "0000:00:03.0 does not support PRE_COPY";
        assert_eq!(
            SAMPLE.may_skip("a: b.c", reason),
            Some("does not support PRE_COPY")
        );
        assert_eq!(C.may_skip("a: b.c", reason), None);
        assert!(ALL.may_skip("vfio_pci_driver_test", "").is_some());
    }
}

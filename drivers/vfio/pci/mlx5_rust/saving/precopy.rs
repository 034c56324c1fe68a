// SPDX-License-Identifier: GPL-2.0

//! How many bytes of a pre-copy stream are left, and of which kind.
//!
//! `include/uapi/linux/vfio.h` on `struct vfio_precopy_info`: *initial bytes* are the data that a
//! destination should have before it takes over, *dirty bytes* are later changes. Initial bytes
//! come first, so one position in the stream divides the two.
//!
//! The file uses no kernel types, so that it can also be compiled and tested in user space.

/// Positions in a stream, in bytes from its beginning. The position of readers is an
/// argument: they change it without a lock.
///
/// # Invariants
///
/// `initial_end <= written`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Ledger {
    written: u64,
    initial_end: u64,
}

/// Firmware's answer to a query about a running device.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Pending {
    /// Bytes that a SAVE of the changes needs; 0 if no SAVE is possible.
    pub(crate) bytes: u64,
    /// The changes include a new initial state.
    pub(crate) new_initial: bool,
}

/// The answer to VFIO_MIG_GET_PRECOPY_INFO. At most one of `initial_bytes` and `dirty_bytes` is not
/// 0.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Info {
    /// `initial_bytes` of `struct vfio_precopy_info`.
    pub(crate) initial_bytes: u64,
    /// `dirty_bytes` of `struct vfio_precopy_info`.
    pub(crate) dirty_bytes: u64,
    /// `VFIO_PRECOPY_INFO_REINIT`.
    pub(crate) reinit: bool,
}

/// Kind of the bytes of an image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Initial bytes.
    Initial,
    /// Dirty bytes.
    Dirty,
}

impl Ledger {
    /// Notes that `bytes` were appended to the stream. Returns its length.
    pub(crate) fn append(&mut self, kind: Kind, bytes: u64) -> u64 {
        // INVARIANT: `written` only grows.
        self.written = self.written.saturating_add(bytes);
        if kind == Kind::Initial {
            self.initial_end = self.written;
        }
        self.written
    }

    /// Returns the number of bytes after position `read`.
    pub(crate) fn unread(&self, read: u64) -> u64 {
        self.written.saturating_sub(read)
    }

    /// Returns the answer, and the kind of image to save now, if any: a dirty one only if
    /// everything was read, an initial one in any case.
    ///
    /// `read` is the position of readers, and `header` the length of the header of an image.
    pub(crate) fn report(
        &mut self,
        read: u64,
        pending: Pending,
        header: u64,
    ) -> (Info, Option<Kind>) {
        let unread = self.unread(read);
        let coming = match pending.bytes {
            0 => 0,
            bytes => bytes.saturating_add(header),
        };
        if pending.new_initial {
            // Unread data come before the new initial state, so they count as initial, too.
            self.initial_end = self.written;
            let info = Info {
                initial_bytes: unread.saturating_add(coming),
                dirty_bytes: 0,
                reinit: true,
            };
            return (info, (coming > 0).then_some(Kind::Initial));
        }
        let initial = self.initial_end.saturating_sub(read);
        if initial > 0 {
            let info = Info {
                initial_bytes: initial,
                ..Info::default()
            };
            return (info, None);
        }
        let save = unread == 0 && coming > 0;
        let dirty = unread.saturating_add(if save { coming } else { pending.bytes });
        let info = Info {
            dirty_bytes: dirty,
            ..Info::default()
        };
        (info, save.then_some(Kind::Dirty))
    }
}

#[cfg(any(test, CONFIG_MLX5_VFIO_PCI_RUST_KUNIT_TEST))]
#[cfg_attr(
    CONFIG_MLX5_VFIO_PCI_RUST_KUNIT_TEST,
    kernel::prelude::kunit_tests(mlx5_vfio_pci_rust_precopy)
)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const HEADER: u64 = 16;

    fn dirty(bytes: u64) -> Pending {
        Pending {
            bytes,
            new_initial: false,
        }
    }

    fn fresh(bytes: u64) -> Pending {
        Pending {
            bytes,
            new_initial: true,
        }
    }

    #[test]
    fn initial_bytes_have_a_non_zero_initial_value_and_decrease_as_data_is_read() {
        let mut ledger = Ledger::default();
        ledger.append(Kind::Initial, 100);
        for read in [0, 40, 99] {
            let (info, save) = ledger.report(read, dirty(500), HEADER);
            assert_eq!((info.initial_bytes, info.dirty_bytes), (100 - read, 0));
            assert_eq!(save, None);
        }
        let (info, save) = ledger.report(100, dirty(0), HEADER);
        assert_eq!((info.initial_bytes, info.dirty_bytes), (0, 0));
        assert_eq!(save, None);
    }

    #[test]
    fn dirty_bytes_start_at_zero_and_count_what_has_changed() {
        let mut ledger = Ledger::default();
        ledger.append(Kind::Initial, 100);
        let (info, save) = ledger.report(100, dirty(500), HEADER);
        assert_eq!(info.dirty_bytes, 500 + HEADER);
        assert_eq!(save, Some(Kind::Dirty));
        ledger.append(Kind::Dirty, 500 + HEADER);
        let (info, save) = ledger.report(116, dirty(300), HEADER);
        assert_eq!(info.dirty_bytes, 500 + 300);
        assert_eq!(save, None);
    }

    #[test]
    fn a_new_initial_state_counts_what_is_unread_and_what_comes() {
        let mut ledger = Ledger::default();
        ledger.append(Kind::Initial, 100);
        ledger.append(Kind::Dirty, 50);
        let (info, save) = ledger.report(120, fresh(1000), HEADER);
        assert_eq!(
            info,
            Info {
                initial_bytes: 30 + 1000 + HEADER,
                dirty_bytes: 0,
                reinit: true
            }
        );
        assert_eq!(save, Some(Kind::Initial));
        ledger.append(Kind::Initial, 900 + HEADER);
        let (info, _) = ledger.report(120, dirty(7), HEADER);
        assert_eq!(info.initial_bytes, 30 + 900 + HEADER);
        assert!(!info.reinit);
    }
}

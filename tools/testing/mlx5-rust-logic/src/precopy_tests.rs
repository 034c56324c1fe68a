// SPDX-License-Identifier: GPL-2.0

//! [`precopy`](crate::precopy): the rules of `struct vfio_precopy_info`, and the
//! C driver's arithmetic.

use crate::precopy::{
    tests::HEADER,
    Kind,
    Ledger,
    Pending, //
};
use proptest::prelude::*;

/// The fields, and the arithmetic, of the C driver.
#[derive(Default, Debug)]
struct CDriver {
    pos: u64,
    max_pos: u64,
    initial_start: u64,
    initial: u64,
}

impl CDriver {
    fn append(&mut self, initial: bool, bytes: u64) {
        self.max_pos += bytes;
        if initial {
            self.initial += bytes;
        }
    }

    /// `initial_bytes`, `dirty_bytes`, REINIT, and whether a SAVE starts.
    fn info(&mut self, inc_length: u64, reinit: bool) -> (u64, u64, bool, bool) {
        let (mut initial, mut dirty) = (0, 0);
        let end_of_data = self.max_pos == self.pos;
        if reinit {
            self.initial_start = self.pos;
            self.initial = self.max_pos - self.pos;
            initial = self.initial + inc_length;
        } else if self.initial_start + self.initial > self.pos {
            initial = self.initial_start + self.initial - self.pos;
        } else {
            dirty = self.max_pos - self.pos + inc_length;
        }
        let save = (reinit || end_of_data) && inc_length > 0;
        if save && reinit {
            initial += HEADER;
        } else if save {
            dirty += HEADER;
        }
        (initial, dirty, reinit, save)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Read(prop::sample::Index),
    ReadAll,
    Ask(u64, bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(
        prop_oneof![
            any::<prop::sample::Index>().prop_map(Step::Read),
            Just(Step::ReadAll),
            (prop_oneof![Just(0), 0u64..10_000], any::<bool>())
                .prop_map(|(bytes, new)| Step::Ask(bytes, new)),
        ],
        0..40,
    )
}

proptest! {
    #[test]
    fn reports_are_those_of_the_c_driver(first in 0u64..5000, steps in steps()) {
        let mut ledger = Ledger::default();
        let mut c = CDriver::default();
        for bytes in [24, HEADER + first] {
            ledger.append(Kind::Initial, bytes);
            c.append(true, bytes);
        }
        for step in steps {
            let unread = c.max_pos - c.pos;
            match step {
                Step::Read(part) => {
                    let n = part.index(unread as usize + 1) as u64;
                    c.pos += n;
                }
                Step::ReadAll => c.pos += unread,
                Step::Ask(bytes, new_initial) => {
                    let pending = Pending { bytes, new_initial };
                    let (info, save) = ledger.report(c.pos, pending, HEADER);
                    prop_assert_eq!(ledger.unread(c.pos), c.max_pos - c.pos);
                    let seen = (
                        info.initial_bytes,
                        info.dirty_bytes,
                        info.reinit,
                        save.is_some(),
                    );
                    prop_assert_eq!(seen, c.info(bytes, new_initial));
                    if let Some(kind) = save {
                        ledger.append(kind, HEADER + bytes / 2);
                        c.append(new_initial, HEADER + bytes / 2);
                    }
                }
            }
        }
    }
}

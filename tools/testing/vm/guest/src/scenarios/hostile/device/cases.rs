// SPDX-License-Identifier: GPL-2.0

//! The lies, and how a request ends that meets one.

use super::paths::{
    Path,
    BIND,
    LEAVE,
    LOAD,
    PRECOPY,
    RELOAD,
    RELOAD_MIGRATE,
    REPORTS,
    SAVE,
    SILENT,
    TRACK,
    TRACK_AGAIN, //
};
use crate::{
    fault::{
        event,
        opcode, //
    },
    lie::{
        answer,
        capability,
        cqe,
        Field,
        Lie, //
    },
    vf::IOVA, //
};
use mlx5_emu_regs as regs;
use std::time::Duration;

/// When a lie is tried.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// Each time.
    Always,
    /// Only if there is much time.
    Long,
}

/// A lie, or several at once.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) path: &'static Path,
    pub(super) lies: &'static [Lie],
    /// How the request ends, with our driver.
    pub(super) end: &'static str,
    /// Why the C driver does not survive it.
    pub(super) not_with_c: Option<&'static str>,
    /// Objects stay until the PF is set up again: their numbers are wrong.
    pub(super) leaves_objects: bool,
    pub(super) when: When,
}

const WAITS: &str = "it waits for a message without a limit, and cannot be killed";
const WARNS: &str = "it warns with a backtrace";
const LOSES: &str = "it takes the entry for the next message, and loses pages";
const MEMORY: &str = "it allocates all memory, and processes are killed for it";
const FOREVER: &str = "it reports without an end, and cannot be killed";
const TRACKS: &str = "if the SAVE that ends tracking cannot be sent, it loses a buffer and a file";

/// Events of a report that do not end.
const STORM: Lie =
    Lie::events(REQUEST, event::COMP, None, u16::MAX).every(Duration::from_millis(10));

/// Whenever the driver is about to wait for an event, there are two.
pub(super) const CHASE: Lie = Lie::armed(2);

const CASE: Case = Case {
    name: "",
    path: &SAVE,
    lies: &[],
    end: "ok",
    not_with_c: None,
    leaves_objects: false,
    when: When::Always,
};

const QUERY: u16 = opcode::QUERY_VHCA_MIGRATION_STATE;
const SAVES: u16 = opcode::SAVE_VHCA_STATE;
const REQUEST: u16 = opcode::MODIFY_GENERAL_OBJECT;
/// Largest value of a field of 32 bits.
const ALL_ONES: u64 = 0xffff_ffff;
/// Largest SAVE that a command has bits for, in whole pages.
const LARGEST: u64 = 0xffff_f000;
/// A number that no object has.
const NOBODY: u32 = 0xab_cdef;

const fn required(value: u64) -> Lie {
    Lie::answer(QUERY, answer::REQUIRED, value)
}

const fn remaining(value: u64) -> Lie {
    Lie::answer(QUERY, answer::REMAINING, value)
}

const fn image(value: u64) -> Lie {
    Lie::answer(SAVES, answer::IMAGE, value)
}

const fn next(value: u64) -> Lie {
    Lie::answer(SAVES, answer::NEXT, value)
}

const fn track_cap(field: Field, value: u64) -> Lie {
    let lie = Lie::answer(opcode::QUERY_HCA_CAP, field, value);
    lie.op_mod(capability::ADV_VIRTUALIZATION).always()
}

/// Cases that differ only in name, lies and end.
macro_rules! cases {
    ($base:expr; $($name:literal: [$($lie:expr),*] => $end:literal,)*) => {
        &[$(Case { name: $name, lies: &[$($lie),*], end: $end, ..$base },)*]
    };
}

const SIZES: &[Case] = cases! { CASE;
    "a state needs no memory": [required(0).always(), remaining(0).always()] => "ENODEV",
    "a state needs a byte": [required(1).always(), remaining(1).always()] => "ENODEV",
    "a state needs no whole pages": [required(0x1_2345).always()] => "ok",
    "of a state nothing remains": [remaining(0).always()] => "ok",
    "a status of success has a syndrome": [Lie::answer(SAVES, answer::SYNDROME, ALL_ONES)] => "ok",
    "an image has no bytes": [image(0)] => "ENODEV",
    "an image is larger than its buffer": [image(ALL_ONES)] => "ENODEV",
    "an image is a byte long": [image(1)] => "ok",
    "a SAVE writes nothing": [Lie::undone(SAVES), image(0x2000)] => "ok",
    "there is no chunk after the first": [next(0)] => "ok",
    "there is always another chunk": [next(0x1000).always()] => "ENODEV",
    "a VF is suspended, and goes on": [Lie::undone(opcode::SUSPEND_VHCA).nth(2)] => "ENODEV",
    "a VF is resumed, and does not go on": [Lie::undone(opcode::RESUME_VHCA)] => "EINVAL",
};

const LARGE: &[Case] = cases! { Case { not_with_c: Some(MEMORY), ..CASE };
    "a state needs 4 GiB": [required(ALL_ONES).nth(2)] => "EOVERFLOW",
    "a state needs more memory than there is": [required(LARGEST).nth(2)] => "ENOMEM",
    "of a state 2^64 bytes remain": [remaining(u64::MAX).always()] => "ok",
    "the next chunk needs 4 GiB": [next(ALL_ONES)] => "ENODEV",
    "the next chunk needs more memory than there is": [next(LARGEST)] => "ENODEV",
};

const RUNNING: &[Case] = cases! { Case { path: &PRECOPY, ..CASE };
    "the first image has no bytes": [image(0)] => "ENODEV",
    "the first image is larger than its buffer": [image(ALL_ONES)] => "ENODEV",
    "changes need no memory": [required(0).nth(2)] => "ok",
    "changes need a byte": [required(1).nth(2), remaining(1).nth(2)] => "ok",
    "an image of changes is larger than its buffer": [image(ALL_ONES).nth(2)] => "ENODEV",
    "a SAVE of changes writes nothing": [Lie::undone(SAVES).nth(2), image(0x1000).nth(2)] => "ok",
};

const RUNNING_LARGE: &[Case] = cases! {
    Case { path: &PRECOPY, not_with_c: Some(MEMORY), ..CASE };
    "changes need more than the state": [required(0x40_0000).nth(2)] => "ok",
    "changes need 4 GiB": [required(ALL_ONES).nth(2)] => "EOVERFLOW",
    "changes need more memory than there is": [required(LARGEST).nth(2)] => "ENOMEM",
    "the last changes need 4 GiB": [required(ALL_ONES).nth(4)] => "EOVERFLOW",
};

const LEAVING: &[Case] = cases! { Case { path: &LEAVE, not_with_c: Some(TRACKS), ..CASE };
    "the end of tracking needs 4 GiB": [required(ALL_ONES)] => "EOVERFLOW",
    "the end of tracking has not ended it": [Lie::undone(SAVES)] => "ok",
};

const LOADS: &[Case] = cases! { Case { path: &LOAD, ..CASE };
    "a LOAD loads nothing": [Lie::undone(opcode::LOAD_VHCA_STATE).always()] => "ok",
    "a LOAD succeeds with a syndrome":
        [Lie::answer(opcode::LOAD_VHCA_STATE, answer::SYNDROME, ALL_ONES)] => "ok",
};

const BINDS: &[Case] = cases! { Case { path: &BIND, ..CASE };
    "a VF is a VHCA that is not there":
        [Lie::answer(opcode::QUERY_HCA_CAP, answer::VHCA_ID, 0xffff)
            .op_mod(capability::GENERAL)] => "EINVAL",
    "a VF cannot migrate":
        [Lie::answer(opcode::QUERY_HCA_CAP, answer::MIGRATABLE, 0)
            .op_mod(capability::GENERAL_2)] => "ENOTTY",
};

const MESSAGES: &[Case] = cases! { Case { path: &REPORTS, ..CASE };
    "an entry tells of an error": [Lie::completion(cqe::OPCODE, 13)] => "EIO",
    "an entry tells of a request": [Lie::completion(cqe::OPCODE, 0)] => "EIO",
    "a message says that the tracker has failed": [Lie::completion(cqe::STATE, 2)] => "EIO",
    "a message tells of half an entry": [Lie::completion(cqe::BYTES, 13)] => "pages are lost",
};

const MESSAGES_WARN: &[Case] = cases! { Case { path: &REPORTS, not_with_c: Some(WARNS), ..CASE };
    "a message is longer than its memory": [Lie::completion(cqe::BYTES, 4097)] => "EIO",
    "a message has 4 GiB": [Lie::completion(cqe::BYTES, ALL_ONES)] => "EIO",
};

const MESSAGES_LOST: &[Case] = cases! { Case { path: &REPORTS, not_with_c: Some(LOSES), ..CASE };
    "a message is in a slot that is not there": [Lie::completion(cqe::COUNTER, 0xffff)] => "EIO",
    "a message is in the slot of a later one": [Lie::completion(cqe::COUNTER, 1)] => "EIO",
    "a message is in a state that does not exist": [Lie::completion(cqe::STATE, 9)] => "EIO",
    "a message comes twice": [Lie::again(1)] => "EIO",
};

const ADDRESSES: &[Case] = cases! { Case { path: &REPORTS, ..CASE };
    "a page is before all ranges": [Lie::addresses(0)] => "pages are lost",
    "a page is just before the range": [Lie::addresses(IOVA - regs::PAGE)] => "pages are lost",
    "a page is behind all memory": [Lie::addresses(u64::MAX)] => "pages are lost",
    "a page begins within a page": [Lie::addresses(IOVA + 0x7ff)] => "pages are lost",
};

const SLOW: &[Case] = &[
    // Entries of the next time around are where the driver looks for the first ones.
    Case {
        name: "more messages come than the queue has",
        path: &REPORTS,
        lies: &[Lie::again(1000)],
        end: "ETIMEDOUT",
        not_with_c: Some(WAITS),
        when: When::Long,
        ..CASE
    },
    Case {
        name: "a report does not end",
        path: &REPORTS,
        lies: &[Lie::endless(IOVA)],
        end: "EIO",
        not_with_c: Some(FOREVER),
        when: When::Long,
        ..CASE
    },
    Case {
        name: "an entry belongs to the device",
        path: &REPORTS,
        lies: &[Lie::completion(cqe::OWNER, 1)],
        end: "ETIMEDOUT",
        not_with_c: Some(WAITS),
        when: When::Long,
        ..CASE
    },
    Case {
        name: "events of no message come without an end",
        path: &SILENT,
        lies: &[STORM],
        end: "ETIMEDOUT",
        not_with_c: Some(WAITS),
        ..CASE
    },
    Case {
        name: "the tracker changes without an end",
        path: &SILENT,
        lies: &[Lie::events(REQUEST, event::OBJECT_CHANGE, None, u16::MAX)
            .every(Duration::from_millis(10))],
        end: "ETIMEDOUT",
        not_with_c: Some(WAITS),
        when: When::Long,
        ..CASE
    },
];

const EVENTS: &[Case] = cases! { Case { path: &REPORTS, ..CASE };
    "a CQ has a message that does not exist":
        [Lie::events(REQUEST, event::COMP, Some(NOBODY), 1)] => "ok",
    "a CQ has failed that does not exist":
        [Lie::events(REQUEST, event::CQ_ERROR, Some(NOBODY), 1)] => "ok",
    "a QP has failed that does not exist":
        [Lie::events(REQUEST, event::WQ_CATAS_ERROR, Some(NOBODY), 1)] => "ok",
    "an object has changed that does not exist":
        [Lie::events(REQUEST, event::OBJECT_CHANGE, Some(NOBODY), 1)] => "ok",
    "there is no message for 200 events": [Lie::events(REQUEST, event::COMP, None, 200)] => "ok",
    "the tracker has not changed 200 times":
        [Lie::events(REQUEST, event::OBJECT_CHANGE, None, 200)] => "ok",
    "the tracker is in a state that does not exist":
        [Lie::events(REQUEST, event::OBJECT_CHANGE, None, 1),
            Lie::answer(opcode::QUERY_GENERAL_OBJECT, answer::TRACK_STATE, 15)] => "ok",
};

/// The report has not ended when the event comes.
const FAILURES: &[Case] = cases! { Case { path: &SILENT, ..CASE };
    "the tracker says that it has failed":
        [Lie::events(REQUEST, event::OBJECT_CHANGE, None, 1),
            Lie::answer(opcode::QUERY_GENERAL_OBJECT, answer::TRACK_STATE, 2)] => "EIO",
};

const GONE: &[Case] = cases! { Case { path: &TRACK_AGAIN, ..CASE };
    "a tracker that is gone changes":
        [Lie::events(opcode::DESTROY_GENERAL_OBJECT, event::OBJECT_CHANGE, None, 3)] => "ok",
    "a CQ that is gone has messages":
        [Lie::events(opcode::DESTROY_GENERAL_OBJECT, event::COMP, None, 3)] => "ok",
    "a QP that is gone fails":
        [Lie::events(opcode::DESTROY_GENERAL_OBJECT, event::WQ_CATAS_ERROR, None, 1)] => "ok",
};

const OBJECTS: &[Case] = cases! { Case { path: &TRACK, leaves_objects: true, ..CASE };
    "a QP has a number that does not exist":
        [Lie::answer(opcode::CREATE_QP, answer::NUMBER, NOBODY as u64)] => "EINVAL",
    "a tracker has a number that does not exist":
        [Lie::answer(opcode::CREATE_GENERAL_OBJECT, answer::OBJECT, ALL_ONES)] => "EINVAL",
    "two QPs have one number":
        [Lie::answer(opcode::CREATE_QP, answer::NUMBER, 1).always()] => "EINVAL",
    "an mkey has a number that does not exist":
        [Lie::answer(opcode::CREATE_MKEY, answer::NUMBER, NOBODY as u64)] => "EIO",
    "a CQ has a number that does not exist":
        [Lie::answer(opcode::CREATE_CQ, answer::NUMBER, NOBODY as u64)] => "EINVAL",
    "a PD has a number that does not exist":
        [Lie::answer(opcode::ALLOC_PD, answer::NUMBER, NOBODY as u64)] => "EINVAL",
    "an mkey is destroyed, and stays": [Lie::undone(opcode::DESTROY_MKEY)] => "ok",
};

const LIMITS: &[Case] = cases! { Case { path: &RELOAD, when: When::Long, ..CASE };
    "a message has no room for an address": [track_cap(answer::MAX_MESSAGE, 0)] => "EOPNOTSUPP",
    "a message has 2 GiB at least":
        [track_cap(answer::MIN_MESSAGE, 31), track_cap(answer::MAX_MESSAGE, 31)] => "EOPNOTSUPP",
    "a message has 2 GiB at most": [track_cap(answer::MAX_MESSAGE, 31)] => "EINVAL",
    "the smallest message is the largest": [track_cap(answer::MIN_MESSAGE, 31)] => "ok",
    "pages have a byte at most": [track_cap(answer::MAX_PAGE, 0)] => "EINVAL",
    "pages have 2 GiB":
        [track_cap(answer::MIN_PAGE, 31), track_cap(answer::MAX_PAGE, 31)] => "EINVAL",
    "all ranges together have a byte": [track_cap(answer::MAX_SPACE, 0)] => "EOPNOTSUPP",
    "all ranges together have 2^255 bytes":
        [track_cap(answer::MIN_SPACE, 255), track_cap(answer::MAX_SPACE, 255)] => "EOPNOTSUPP",
    "there are no ranges": [track_cap(answer::MAX_RANGES, 0)] => "ok",
};

const fn general_2(field: Field, value: u64) -> Lie {
    let lie = Lie::answer(opcode::QUERY_HCA_CAP, field, value);
    lie.op_mod(capability::GENERAL_2_NOW).always()
}

// Of the general capabilities, mlx5_core gives most back with SET_HCA_CAP, and firmware refuses
// those that are not its own: there is no PF then.
const ABILITIES: &[Case] = cases! { Case { path: &RELOAD_MIGRATE, when: When::Long, ..CASE };
    "a state is loaded at once": [general_2(answer::MULTI_LOAD, 0)] => "ENOTTY",
    "changes of a state are not tracked": [general_2(answer::TRACKING_STATE, 0)] => "ENOTTY",
    "a state comes in chunks": [general_2(answer::IN_CHUNKS, 1)] => "ok",
    "a state tells nothing of what remains": [general_2(answer::MIGRATION_STATE, 0)] => "ok",
};

const VERSIONS: &[Case] = cases! { Case { path: &RELOAD, when: When::Long, ..CASE };
    "queues have no users":
        [Lie::answer(opcode::QUERY_HCA_CAP, answer::CQE_VERSION, 0)
            .op_mod(capability::GENERAL)
            .always()] => "ok",
};

/// All of them, of one path after the other.
pub(super) const ALL: &[&[Case]] = &[
    SIZES,
    LARGE,
    RUNNING,
    RUNNING_LARGE,
    LEAVING,
    LOADS,
    BINDS,
    MESSAGES,
    MESSAGES_WARN,
    MESSAGES_LOST,
    ADDRESSES,
    SLOW,
    EVENTS,
    FAILURES,
    GONE,
    OBJECTS,
    LIMITS,
    ABILITIES,
    VERSIONS,
];

// SPDX-License-Identifier: GPL-2.0

//! How large records can be, and which numbers they can have. What is larger is refused before
//! it is read.

use super::{
    Registers,
    Saved, //
};
use crate::{
    cmdq::SavedCommand,
    cq::CompletionQueue,
    eq::EventQueue,
    initseg::LOG_SLOTS,
    mkey::Mkey,
    numbers::{
        self,
        Numbers, //
    },
    objects::QCounter,
    pages::LentPages,
    qp::QueuePair,
    records::Kind,
    rq::Rq,
    rqt::Rqt,
    sq::Sq,
    steering::{
        self,
        Table, //
    },
    tir::Tir,
    tis::Tis,
    vport::{
        Counters,
        Settings,
        Traffic, //
    },
};
use std::ops::Range;

/// Most bytes that a record of this kind has if commands have made it.
pub const fn max_len(kind: Kind) -> usize {
    match kind {
        Kind::Registers => Registers::MAX_LEN,
        Kind::Command => SavedCommand::MAX_LEN,
        Kind::Pages => LentPages::MAX_LEN,
        Kind::Vport => Settings::MAX_LEN,
        Kind::Counters => Counters::MAX_LEN,
        Kind::Pds | Kind::Uars | Kind::Domains => Numbers::MAX_LEN,
        Kind::Eq => EventQueue::MAX_LEN,
        Kind::Mkey => Mkey::MAX_LEN,
        Kind::Cq => CompletionQueue::MAX_LEN,
        Kind::Qp => QueuePair::MAX_LEN,
        Kind::Tis => Tis::MAX_LEN,
        Kind::Tir => Tir::MAX_LEN,
        Kind::Rqt => Rqt::MAX_LEN,
        Kind::Sq => Sq::MAX_LEN,
        Kind::Rq => Rq::MAX_LEN,
        Kind::QCounter => QCounter::MAX_LEN,
        Kind::FlowCounter => Traffic::MAX_LEN,
        Kind::FlowTable => Table::MAX_LEN,
        Kind::Root => u32::MAX_LEN,
    }
}

/// Numbers that commands give to what records of this kind are of; 0 if there is always one.
pub const fn numbers(kind: Kind) -> Range<u32> {
    match kind {
        Kind::Command => 0..1 << LOG_SLOTS,
        Kind::Eq => numbers::EQS,
        Kind::Mkey => numbers::MKEYS,
        Kind::Cq => numbers::CQS,
        Kind::Qp => numbers::QPS,
        Kind::Tis => numbers::TISS,
        Kind::Tir => numbers::TIRS,
        Kind::Rqt => numbers::RQTS,
        Kind::Sq => numbers::SQS,
        Kind::Rq => numbers::RQS,
        Kind::QCounter => numbers::Q_COUNTERS,
        Kind::FlowCounter => numbers::FLOW_COUNTERS,
        Kind::FlowTable => steering::TABLES,
        Kind::Registers
        | Kind::Pages
        | Kind::Vport
        | Kind::Counters
        | Kind::Pds
        | Kind::Uars
        | Kind::Domains
        | Kind::Root => 0..1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Config,
        host::FunctionId,
        ifc::{
            self,
            ethernet::{
                wq,
                CONTEXT, //
            },
            Field, //
        },
        mkey,
        records::{
            Joined,
            Key,
            Part, //
        },
        resources::{
            encode,
            Resources, //
        },
    };

    #[test]
    fn nothing_is_kept_of_a_record_that_is_larger_than_there_can_be() {
        let piece = |kind, total: usize| Part::Piece {
            key: Key { kind, number: 0 },
            offset: 0,
            total: total as u32,
            bytes: vec![0],
        };
        for kind in Kind::ALL {
            let most = max_len(kind);
            assert!(most < 200 << 20);
            assert!(Joined::default().join(vec![piece(kind, most)]).is_some());
            let larger = piece(kind, most + 1);
            assert!(Joined::default().join(vec![larger]).is_none(), "{kind:?}");
        }
    }

    /// Whether an HCA with this configuration takes a record, or that there is none.
    fn takes(config: &Config, kind: Kind, number: u32, bytes: Option<&[u8]>) -> bool {
        let id = FunctionId(1);
        let mut fresh = Resources::after_reset(config, id);
        let key = Key { kind, number };
        let loaded = fresh.clone().load(config, &mut fresh, id, key, bytes);
        loaded.is_ok()
    }

    fn nic() -> Config {
        Config {
            network: Some([2; 6]),
            ..Config::default()
        }
    }

    #[test]
    fn records_have_numbers_that_commands_give() {
        let load = |kind, number, bytes: Option<&[u8]>| takes(&nic(), kind, number, bytes);
        for kind in Kind::ALL {
            let Range { start, end } = numbers(kind);
            assert!(load(kind, start, None) && load(kind, end - 1, None));
            assert!(!load(kind, end, None), "{kind:?}");
            assert!(start == 0 || !load(kind, start - 1, None), "{kind:?}");
        }
        // Sets of one, or two.
        for (kind, good, bad) in [
            (Kind::Pds, &[1, 1], &[1, 0]),
            (Kind::Uars, &[1, 0x7f], &[1, 0xf]),
            (Kind::Domains, &[1, 1], &[1, 0]),
        ] {
            assert!(load(kind, 0, Some(good)), "{kind:?}");
            assert!(!load(kind, 0, Some(bad)), "{kind:?}");
        }
        assert!(!load(Kind::Uars, 0, Some(&[2, 0x10, 0x80, 1])));
        assert!(!load(Kind::Domains, 0, Some(&[1, 0x80, 8])));
        assert!(!load(Kind::Pds, 0, Some(&[1, 0x80, 0x80, 0x80, 8])));
    }

    #[test]
    fn only_a_nic_takes_records_of_one() {
        let (nic, other) = (nic(), Config::default());
        let fresh = Resources::after_reset(&nic, FunctionId(1));
        for (kind, record) in [
            (Kind::Vport, encode(&fresh.vport)),
            (Kind::Counters, encode(&fresh.counters)),
            (Kind::Domains, vec![1, 1]),
            (Kind::Sq, encode(&Sq::parse(&of_ring(6, 6)).unwrap())),
            (Kind::QCounter, vec![0]),
            (Kind::FlowCounter, vec![0, 0]),
            (Kind::Root, vec![1]),
        ] {
            let number = numbers(kind).start;
            assert!(takes(&nic, kind, number, Some(&record)), "{kind:?}");
            assert!(!takes(&other, kind, number, Some(&record)), "{kind:?}");
            assert!(takes(&other, kind, number, None), "{kind:?}");
        }
        assert!(takes(&other, Kind::Pds, 0, Some(&[1, 1])));
    }

    #[test]
    fn nobody_inits_what_was_not_enabled() {
        for (started, up, ok) in [
            (false, false, true),
            (true, false, true),
            (true, true, true),
            (false, true, false),
        ] {
            let fresh = Resources::after_reset(&Config::default(), FunctionId(1));
            let registers = Registers {
                started,
                up,
                ..fresh.registers
            };
            assert_eq!(registers.is_sound(), ok);
        }
    }

    /// A command with a list of pages from `at` on, whose addresses take most room.
    fn with_pages(at: usize, count: usize, fields: &[(Field, u64)]) -> Vec<u8> {
        let mut input = vec![0; at];
        for (field, value) in fields {
            field.set(&mut input, *value);
        }
        input.extend((!0u64 << 12).to_be_bytes().repeat(count));
        input
    }

    fn of_ring(log_size: u64, log_stride: u64) -> Vec<u8> {
        let count = 1 << (log_size + log_stride - 12);
        let at = CONTEXT + wq::CONTEXT_LEN;
        let mut input = with_pages(at, count, &[]);
        let context = &mut input[CONTEXT..];
        for (field, value) in [
            (wq::TYPE, 1),
            (wq::LOG_STRIDE, log_stride),
            (wq::LOG_SIZE, log_size),
            (wq::DBR, u64::MAX),
        ] {
            field.set(context, value);
        }
        input
    }

    /// Its record is not larger than it can be, and not much smaller.
    fn check<T: Saved>(object: &T) {
        let len = encode(object).len();
        assert!(len <= T::MAX_LEN, "{len} of {}", T::MAX_LEN);
        assert!(len + 100 > T::MAX_LEN, "{len} of {}", T::MAX_LEN);
    }

    #[test]
    fn the_largest_objects_have_records() {
        let id = FunctionId(1);
        let pages = 1 << 20;
        let fields = [
            (ifc::MKC_ACCESS_MODE, ifc::ACCESS_MODE_MTT),
            (ifc::MKC_START, u64::MAX << 33),
            (ifc::MKC_LEN, (pages as u64) << 12),
            (ifc::MKC_OCTWORDS, pages as u64 / 2),
            (ifc::MKEY_ACTUAL_OCTWORDS, pages as u64 / 2),
            (ifc::MKC_LOG_PAGE_SIZE, 12),
        ];
        let limits = mkey::Limits {
            log_max_page: 12,
            physical: false,
        };
        let input = with_pages(ifc::MKEY_MTT, pages, &fields);
        check(&Mkey::parse(id, &input, limits).unwrap());
        let fields = [(ifc::EQ_LOG_SIZE, 22), (ifc::EQ_EVENTS, u64::MAX)];
        let input = with_pages(ifc::EQ_PAS, 1 << 16, &fields);
        check(&EventQueue::parse(&input).unwrap());
        let fields = [(ifc::CQC_LOG_SIZE, 22), (ifc::CQC_DBR, u64::MAX)];
        let input = with_pages(ifc::QUEUE_PAS, 1 << 16, &fields);
        check(&CompletionQueue::parse(id, &input).unwrap());
        let fields = [
            (ifc::QPC_NO_SQ, 1),
            (ifc::QPC_LOG_RQ_SIZE, 15),
            (ifc::QPC_LOG_RQ_STRIDE, 7),
            (ifc::QPC_DBR, u64::MAX),
        ];
        let input = with_pages(ifc::QUEUE_PAS, 1 << 14, &fields);
        check(&QueuePair::parse(id, &input).unwrap());
        check(&Sq::parse(&of_ring(15, 6)).unwrap());
        check(&Rq::parse(&of_ring(15, 10)).unwrap());
    }
}

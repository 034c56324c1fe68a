// SPDX-License-Identifier: GPL-2.0

//! Moderation of completions: an armed CQ tells its EQ of several at once, when there are as
//! many as its driver has chosen, or a period is over.

use crate::{
    encoded::U32,
    ifc::{
        ethernet,
        Field, //
    }, //
};
use serde::{
    Deserialize,
    Serialize, //
};

/// Nanoseconds of a microsecond, the unit of `cq_period`.
const MICROSECOND: u64 = 1000;
/// `MLX5_CQ_PERIOD_MODE_START_FROM_CQE`
const FROM_CQE: u64 = 1;

/// What a driver has chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Limits {
    /// Nanoseconds before an event.
    period: u64,
    /// Completions before an event.
    count: u32,
    /// Whether each completion has the period begin anew: else only an event does.
    from_completion: bool,
}

impl Limits {
    /// Those of a `cq_context`, or `None` if each completion has an event: either limit is 0.
    fn of(context: &[u8]) -> Option<Self> {
        let limits = Self {
            period: ethernet::CQC_PERIOD.get(context) * MICROSECOND,
            count: ethernet::CQC_MAX_COUNT.get(context) as u32,
            from_completion: ethernet::CQC_PERIOD_MODE.get(context) == FROM_CQE,
        };
        (limits.period > 0 && limits.count > 0).then_some(limits)
    }
}

/// Fields of a `cq_context` that are about moderation.
pub const FIELDS: [Field; 3] = [
    ethernet::CQC_PERIOD_MODE,
    ethernet::CQC_PERIOD,
    ethernet::CQC_MAX_COUNT,
];

/// What a CQ has not told yet. Its times mean nothing to another HCA: there, the period is
/// over.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Deserialize, Serialize)]
pub struct Moderation {
    /// Completions that there was no event for.
    pub untold: u32,
    /// When the period has begun.
    #[serde(skip)]
    pub since: u64,
    /// When an event is due, if none comes earlier.
    #[serde(skip)]
    pub due: Option<u64>,
}

impl Moderation {
    /// Most bytes in a record.
    pub const MAX_LEN: usize = U32;

    /// There is a completion more.
    pub fn completed(&mut self, context: &[u8], now: u64) {
        self.untold = self.untold.saturating_add(1);
        if Limits::of(context).is_some_and(|limits| limits.from_completion) {
            self.since = now;
        }
    }

    /// Whether an armed CQ tells of its completions now. If not, it may be due later.
    pub fn tells(&mut self, context: &[u8], now: u64) -> bool {
        self.due = None;
        if self.untold == 0 {
            return false;
        }
        if let Some(limits) = Limits::of(context) {
            let due = self.since.saturating_add(limits.period);
            if self.untold < limits.count && now < due {
                self.due = Some(due);
                return false;
            }
            if !limits.from_completion {
                self.since = now;
            }
        }
        self.untold = 0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(period: u64, count: u64, mode: u64) -> Vec<u8> {
        let mut context = vec![0; 0x40];
        for (field, value) in [
            (ethernet::CQC_PERIOD, period),
            (ethernet::CQC_MAX_COUNT, count),
            (ethernet::CQC_PERIOD_MODE, mode),
        ] {
            field.set(&mut context, value);
        }
        context
    }

    #[test]
    fn without_both_limits_each_completion_is_told() {
        for (period, count) in [(0, 0), (8, 0), (0, 8)] {
            let context = context(period, count, 0);
            let mut moderation = Moderation::default();
            assert!(!moderation.tells(&context, 5));
            moderation.completed(&context, 5);
            assert!(moderation.tells(&context, 5));
            assert_eq!(moderation, Moderation::default());
        }
    }

    #[test]
    fn enough_completions_are_told_before_the_period_is_over() {
        let context = context(8, 3, FROM_CQE);
        let mut moderation = Moderation::default();
        for now in [100, 200] {
            moderation.completed(&context, now);
            assert!(!moderation.tells(&context, now));
            assert_eq!(moderation.due, Some(now + 8000));
        }
        moderation.completed(&context, 300);
        assert!(moderation.tells(&context, 300));
        assert_eq!((moderation.untold, moderation.due), (0, None));
    }

    #[test]
    fn the_period_begins_with_an_event_or_a_completion() {
        // Nothing was told for long: the first completion is told at once.
        let from_event = context(8, 32, 0);
        let mut moderation = Moderation::default();
        moderation.completed(&from_event, 50_000);
        assert!(moderation.tells(&from_event, 50_000));
        moderation.completed(&from_event, 51_000);
        assert!(!moderation.tells(&from_event, 51_000));
        moderation.completed(&from_event, 52_000);
        assert!(!moderation.tells(&from_event, 52_000));
        assert_eq!(moderation.due, Some(58_000));
        assert!(moderation.tells(&from_event, 58_000));

        let from_completion = context(8, 32, FROM_CQE);
        let mut moderation = Moderation::default();
        for now in [50_000, 51_000] {
            moderation.completed(&from_completion, now);
            assert!(!moderation.tells(&from_completion, now));
        }
        assert_eq!(moderation.due, Some(59_000));
        assert!(!moderation.tells(&from_completion, 58_999));
        assert!(moderation.tells(&from_completion, 59_000));
        assert!(!moderation.tells(&from_completion, 70_000));
    }
}

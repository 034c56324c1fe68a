// SPDX-License-Identifier: GPL-2.0

//! How much the model does before the rest of its machine has its turn: one thread does all of
//! it. What is left goes on in the next turn, which the timer begins.

use crate::{
    hca::Hca,
    host::{
        FunctionId,
        Host, //
    },
};
use std::collections::BTreeMap;

/// WQEs that are worked through in a turn, of all queues, and frames that are sent. A WQE counts
/// once more for each 4 KiB that it has sent, and a frame for each port but one that it goes to.
pub const SENDS: usize = 4096;
/// Functions and queues that frames come to in a turn. More than what is sent in one: a frame can
/// be for several.
pub const RECEIVES: usize = 8 * SENDS;
/// Looks into flow tables that count as much as a frame. No frame of mlx5e needs so many.
const LOOKS: usize = 64;
/// Bytes of a WQE's frame that count as a WQE.
const BYTES: usize = 4096;

/// What is left of a turn, and whose turn is next.
#[derive(Clone, Debug)]
pub struct Turn {
    /// What may be sent.
    pub sends: usize,
    /// What may be received.
    pub receives: usize,
    /// The function that has sent last.
    function: FunctionId,
    /// The queue of each function that has sent last.
    queues: BTreeMap<FunctionId, u32>,
}

impl Default for Turn {
    fn default() -> Self {
        Self {
            sends: SENDS,
            receives: RECEIVES,
            function: FunctionId::PF,
            queues: BTreeMap::new(),
        }
    }
}

/// Takes what is first not greater than `last` behind the others.
fn rotate<T>(all: &mut [T], is_after: impl Fn(&T) -> bool) {
    let first = all.iter().position(is_after).unwrap_or(0);
    all.rotate_left(first);
}

impl Turn {
    /// Begins a turn.
    pub fn begin(&mut self) {
        self.sends = SENDS;
        self.receives = RECEIVES;
    }

    /// A WQE was worked through, or one frame of an LSO WQE. It has `bytes` bytes.
    pub fn sent(&mut self, bytes: usize) {
        self.sends = self.sends.saturating_sub(1 + bytes / BYTES);
    }

    /// A frame went to `ports` ports. That took `looks` looks into flow tables.
    pub fn forwarded(&mut self, ports: usize, looks: usize) {
        let cost = ports.saturating_sub(1) + looks / LOOKS;
        self.sends = self.sends.saturating_sub(cost);
    }

    /// A frame has come to a function, for so many queues.
    pub fn received(&mut self, queues: usize, looks: usize) {
        let cost = 1 + queues + looks / LOOKS;
        self.receives = self.receives.saturating_sub(cost);
    }

    /// Puts functions that have something to send, which are sorted, in the order in which it is
    /// their turn.
    pub fn order_functions(&self, all: &mut [FunctionId]) {
        rotate(all, |id| *id > self.function);
    }

    /// Puts queues of a function, which are sorted, in the order in which it is their turn.
    pub fn order_queues(&self, id: FunctionId, all: &mut [u32]) {
        let last = self.queues.get(&id).copied().unwrap_or(0);
        rotate(all, |sqn| *sqn > last);
    }

    /// A queue has had its turn.
    pub fn had(&mut self, id: FunctionId, sqn: u32) {
        self.function = id;
        self.queues.insert(id, sqn);
    }
}

impl Hca {
    /// Goes on with the send queues that have more to send than fitted into the last turn: each
    /// function has its share of what is left of this one.
    pub fn send_behind(&mut self, host: &mut dyn Host) {
        let ids = (0..self.functions.len()).map(|id| FunctionId(id as u16));
        let mut behind: Vec<FunctionId> = ids
            .filter(|id| !self.is_suspended(*id) && self.is_behind(*id))
            .collect();
        self.turn.order_functions(&mut behind);
        let count = behind.len();
        for (number, id) in behind.into_iter().enumerate() {
            let all = self.turn.sends;
            let share = all.div_ceil(count - number);
            self.turn.sends = share;
            self.send_function(host, id);
            self.turn.sends += all - share;
        }
    }

    fn is_behind(&self, id: FunctionId) -> bool {
        let mut sqs = self.functions[usize::from(id.0)].objects.sqs.values();
        sqs.any(|sq| sq.behind)
    }

    /// Goes on with the send queues of a function that are behind.
    pub fn send_function(&mut self, host: &mut dyn Host, id: FunctionId) {
        let sqs = self.objects(id).sqs.iter();
        let mut behind: Vec<u32> = sqs.filter(|(_, sq)| sq.behind).map(|(n, _)| *n).collect();
        self.turn.order_queues(id, &mut behind);
        for sqn in behind {
            if self.turn.sends == 0 {
                self.go_on_later(host);
                return;
            }
            self.send_posted(host, id, sqn);
            self.turn.had(id, sqn);
        }
    }

    /// Has the timer begin the next turn at once.
    pub fn go_on_later(&mut self, host: &mut dyn Host) {
        let now = host.now();
        host.wake_at(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_turn() {
        let mut turn = Turn::default();
        let functions = [0, 2, 5].map(FunctionId);
        let mut seen = Vec::new();
        for _ in 0..4 {
            let mut order = functions;
            turn.order_functions(&mut order);
            let mut queues = [7, 9];
            turn.order_queues(order[0], &mut queues);
            seen.push((order[0].0, queues[0]));
            turn.had(order[0], queues[0]);
        }
        assert_eq!(seen, [(2, 7), (5, 7), (0, 7), (2, 9)]);
    }

    #[test]
    fn what_takes_long_costs_more() {
        let mut turn = Turn::default();
        turn.sent(1500);
        turn.forwarded(1, 12);
        turn.received(1, 12);
        assert_eq!((turn.sends, turn.receives), (SENDS - 1, RECEIVES - 2));
        turn.sent(64 << 10);
        turn.forwarded(3, 1024);
        turn.received(3, 1024);
        assert_eq!((turn.sends, turn.receives), (SENDS - 36, RECEIVES - 22));
        turn.begin();
        assert_eq!((turn.sends, turn.receives), (SENDS, RECEIVES));
        turn.sent(usize::MAX);
        assert_eq!(turn.sends, 0);
    }
}

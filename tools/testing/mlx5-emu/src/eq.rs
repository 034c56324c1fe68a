// SPDX-License-Identifier: GPL-2.0

//! Event queues.

use crate::{
    encoded::{
        BYTE,
        U16,
        U32,
        U64, //
    },
    host::{
        FunctionId,
        Host, //
    },
    ifc::{
        self,
        Status, //
    },
    pool::Listed,
    queue::Ring,
    resources::Saved, //
};
use serde::{
    Deserialize,
    Serialize, //
};

/// Bytes of an EQE, and as a shift.
const EQE_LEN: usize = 64;
const EQE_SHIFT: u32 = 6;
/// Where the owner bit is; written last.
const OWNER: usize = 63;
/// What there is of an index.
const INDEX: u32 = 0xff_ffff;
/// What CREATE_EQ has bits for.
const MAX_VECTOR: u16 = 0xfff;
/// Largest queue, as a shift.
pub const MAX_LOG_SIZE: u64 = 22;

/// An event queue.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct EventQueue {
    ring: Ring,
    vector: u16,
    /// Types of events that it takes.
    pub events: u64,
    producer: u32,
    consumer: u32,
    armed: bool,
}

impl Saved for EventQueue {
    const MAX_LEN: usize =
        Ring::max_len(MAX_LOG_SIZE as u32 + EQE_SHIFT) + U16 + U64 + 2 * U32 + BYTE;

    fn is_sound(&self) -> bool {
        self.ring.is_sound(MAX_LOG_SIZE, EQE_SHIFT..=EQE_SHIFT)
            && self.vector <= MAX_VECTOR
            && self.producer <= INDEX
            && self.consumer <= INDEX
    }
}

impl Listed for EventQueue {
    fn pages(&self) -> usize {
        self.ring.pages()
    }
}

impl EventQueue {
    /// CREATE_EQ.
    pub fn parse(input: &[u8]) -> Result<Self, Status> {
        let log_size = ifc::EQ_LOG_SIZE.get(input);
        if log_size > MAX_LOG_SIZE {
            return Err(Status::BadParam);
        }
        Ok(Self {
            ring: Ring::parse(
                input.get(ifc::EQ_PAS..).unwrap_or_default(),
                ifc::EQ_LOG_PAGE_SIZE.get(input) as u32,
                log_size as u32,
                EQE_SHIFT,
            )?,
            vector: ifc::EQ_INTR.get(input) as u16,
            events: ifc::EQ_EVENTS.get(input),
            producer: 0,
            consumer: 0,
            armed: false,
        })
    }

    /// Whether there is no room for one more.
    fn is_full(&self) -> bool {
        self.producer.wrapping_sub(self.consumer) & INDEX >= self.ring.count()
    }

    /// Appends an event of a type and, where that has some, a subtype, and
    /// interrupts if the queue is armed. `false` where it overruns, or its memory
    /// is not there.
    pub fn post(
        &mut self,
        host: &mut dyn Host,
        function: FunctionId,
        (kind, subtype): (u8, u8),
        data: &[u8; 28],
    ) -> bool {
        if self.is_full() {
            return false;
        }
        let at = self.ring.address(self.producer);
        let mut eqe = [0; EQE_LEN];
        eqe[1] = kind;
        eqe[3] = subtype;
        eqe[32..60].copy_from_slice(data);
        eqe[OWNER] = self.ring.lap(self.producer);
        let written = host
            .dma_write(function, at, &eqe[..OWNER])
            .and_then(|()| host.dma_write(function, at.wrapping_add(OWNER as u64), &eqe[OWNER..]));
        if written.is_err() {
            return false;
        }
        self.producer = (self.producer + 1) & INDEX;
        if self.armed {
            self.armed = false;
            host.interrupt(function, self.vector);
        }
        true
    }

    /// The driver has rung the doorbell: it has consumed up to `consumer`, and
    /// may want an interrupt for what comes after.
    pub fn doorbell(
        &mut self,
        host: &mut dyn Host,
        function: FunctionId,
        consumer: u32,
        arm: bool,
    ) {
        self.consumer = consumer & INDEX;
        if arm && self.consumer != self.producer {
            host.interrupt(function, self.vector);
        } else {
            self.armed = arm;
        }
    }

    /// The same while the function is suspended: it interrupts later.
    pub fn note_doorbell(&mut self, consumer: u32, arm: bool) {
        self.consumer = consumer & INDEX;
        self.armed = arm;
    }

    /// The function goes on. Whether the interrupt for what was not consumed yet has reached
    /// the driver, it cannot know: the driver may have moved since.
    pub fn resume(&mut self, host: &mut dyn Host, function: FunctionId) {
        if self.consumer != self.producer {
            self.armed = false;
            host.interrupt(function, self.vector);
        }
    }
}

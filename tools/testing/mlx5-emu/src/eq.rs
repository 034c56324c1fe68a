// SPDX-License-Identifier: GPL-2.0

//! Event queues.

use crate::{
    host::{FunctionId, Host},
    ifc::{self, Status},
};

/// Bytes of an EQE.
const EQE_LEN: u64 = 64;
/// Where the owner bit is; written last.
const OWNER: usize = 63;
/// Largest queue, as a shift.
const MAX_LOG_SIZE: u64 = 22;

/// An event queue.
#[derive(Clone, Debug)]
pub struct EventQueue {
    log_size: u32,
    log_page_size: u32,
    vector: u16,
    /// Types of events that it takes.
    pub events: u64,
    pages: Vec<u64>,
    producer: u32,
    consumer: u32,
    armed: bool,
}

impl EventQueue {
    /// CREATE_EQ.
    pub fn parse(input: &[u8]) -> Result<Self, Status> {
        let log_size = ifc::EQ_LOG_SIZE.get(input);
        let log_page_size = 12 + ifc::EQ_LOG_PAGE_SIZE.get(input);
        if log_size > MAX_LOG_SIZE || log_page_size > 31 {
            return Err(Status::BadParam);
        }
        let count = (EQE_LEN << log_size).div_ceil(1 << log_page_size) as usize;
        let pages: Vec<u64> = input
            .get(ifc::EQ_PAS..)
            .unwrap_or_default()
            .chunks_exact(8)
            .take(count)
            .map(|pa| u64::from_be_bytes(pa.try_into().unwrap_or_default()))
            .collect();
        if pages.len() != count {
            return Err(Status::BadInputLen);
        }
        Ok(Self {
            log_size: log_size as u32,
            log_page_size: log_page_size as u32,
            vector: ifc::EQ_INTR.get(input) as u16,
            events: ifc::EQ_EVENTS.get(input),
            pages,
            producer: 0,
            consumer: 0,
            armed: false,
        })
    }

    /// Whether there is no room for one more.
    fn is_full(&self) -> bool {
        self.producer.wrapping_sub(self.consumer) & 0xff_ffff >= 1 << self.log_size
    }

    /// Appends an event, and interrupts if the queue is armed. `false` where
    /// it overruns, or its memory is not there.
    pub fn post(
        &mut self,
        host: &mut dyn Host,
        function: FunctionId,
        kind: u8,
        data: &[u8; 28],
    ) -> bool {
        if self.is_full() {
            return false;
        }
        let offset = u64::from(self.producer & ((1 << self.log_size) - 1)) * EQE_LEN;
        let page = self.pages[(offset >> self.log_page_size) as usize];
        let at = page + (offset & ((1 << self.log_page_size) - 1));
        let mut eqe = [0; EQE_LEN as usize];
        eqe[1] = kind;
        eqe[32..60].copy_from_slice(data);
        eqe[OWNER] = ((self.producer >> self.log_size) & 1) as u8;
        let written = host
            .dma_write(function, at, &eqe[..OWNER])
            .and_then(|()| host.dma_write(function, at + OWNER as u64, &eqe[OWNER..]));
        if written.is_err() {
            return false;
        }
        self.producer = (self.producer + 1) & 0xff_ffff;
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
        self.consumer = consumer & 0xff_ffff;
        if arm && self.consumer != self.producer {
            host.interrupt(function, self.vector);
        } else {
            self.armed = arm;
        }
    }
}

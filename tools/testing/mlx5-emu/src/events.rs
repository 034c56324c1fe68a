// SPDX-License-Identifier: GPL-2.0

//! Events: which EQ takes them, when, and what a test wants to happen to them.

use crate::{
    faults::EventEffect,
    hca::Hca,
    host::{
        FunctionId,
        Host, //
    },
    ifc::event, //
};

/// An event that is late.
#[derive(Clone, Debug)]
pub struct LateEvent {
    due: u64,
    event: Event,
    /// If it is a lie: how many more there are, and after how many nanoseconds each.
    lie: Option<(u16, u64)>,
}

/// An event, and the EQ of the PF that takes it.
#[derive(Clone, Copy, Debug)]
struct Event {
    eq: u8,
    kind: (u8, u8),
    data: [u8; 28],
}

impl Hca {
    /// Posts an event to the EQ that takes its type.
    pub fn post_event(
        &mut self,
        host: &mut dyn Host,
        owner: FunctionId,
        kind: u8,
        data: &[u8; 28],
    ) {
        self.post_subevent(host, owner, (kind, 0), data);
    }

    /// The same, of a type and a subtype.
    pub fn post_subevent(
        &mut self,
        host: &mut dyn Host,
        owner: FunctionId,
        kind: (u8, u8),
        data: &[u8; 28],
    ) {
        if self.is_suspended(owner) {
            return;
        }
        if let Some(eq) = self.objects(owner).eq_for(kind.0) {
            self.post_to(host, owner, eq, kind, data);
        }
    }

    /// Posts an event to an EQ. A test may want something else to happen to it.
    pub fn post_to(
        &mut self,
        host: &mut dyn Host,
        owner: FunctionId,
        eq: u8,
        kind: (u8, u8),
        data: &[u8; 28],
    ) {
        let fault = match owner {
            FunctionId::PF => self.faults.event(kind.0),
            _ => None,
        };
        if fault.is_some() && kind.0 == event::CMD {
            // If the driver gives the command up, it does not know what was created.
            self.objects(owner).undestroyed = true;
        }
        let event = Event {
            eq,
            kind,
            data: *data,
        };
        match fault {
            None => self.put(host, owner, event),
            Some(EventEffect::Lost) => (),
            Some(EventEffect::Twice) => {
                self.put(host, owner, event);
                self.put(host, owner, event);
            }
            Some(EventEffect::Late(delay)) => {
                let due = host.now().saturating_add(delay);
                self.late_events.push(LateEvent {
                    due,
                    event,
                    lie: None,
                });
                host.wake_at(due);
            }
        }
    }

    /// Posts events to an EQ of the PF that are lies: `more` after the first, each `every`
    /// nanoseconds after the one before.
    pub fn post_lies(
        &mut self,
        host: &mut dyn Host,
        (more, every): (u16, u64),
        eq: u8,
        kind: (u8, u8),
        data: [u8; 28],
    ) {
        let due = host.now().saturating_add(every);
        self.late_events.push(LateEvent {
            due,
            event: Event { eq, kind, data },
            lie: Some((more, every)),
        });
        host.wake_at(due);
    }

    /// Forgets the events to come that are lies.
    pub fn forget_lies(&mut self) {
        self.late_events.retain(|late| late.lie.is_none());
    }

    fn put(&mut self, host: &mut dyn Host, owner: FunctionId, event: Event) {
        let Event { eq, kind, data } = event;
        if let Some(eq) = self.objects(owner).eqs.get_mut(&eq) {
            if !eq.post(host, owner, kind, &data) {
                self.violation(host, owner, "event queue overrun");
            }
        }
    }

    /// Posts the late events that are due, and has the timer fire when the next one is.
    pub fn post_late_events(&mut self, host: &mut dyn Host) {
        let now = host.now();
        let (due, later) = std::mem::take(&mut self.late_events)
            .into_iter()
            .partition(|late| late.due <= now);
        self.late_events = later;
        for LateEvent { due, event, lie } in due {
            self.put(host, FunctionId::PF, event);
            if let Some((more, every)) = lie.filter(|(more, _)| *more > 0) {
                self.late_events.push(LateEvent {
                    due: due.saturating_add(every),
                    event,
                    lie: Some((more - 1, every)),
                });
            }
        }
        if let Some(next) = self.late_events.iter().map(|late| late.due).min() {
            host.wake_at(next);
        }
    }
}

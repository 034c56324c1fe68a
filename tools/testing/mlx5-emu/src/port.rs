// SPDX-License-Identifier: GPL-2.0

//! The physical port: its registers, the wire, and what connects the functions.

use crate::{
    hca::Hca,
    host::{
        FunctionId,
        Host, //
    },
    ifc::{
        eswitch::UPLINK,
        ethernet::register,
        event,
        Status, //
    },
    ppcnt::PortCounters,
    vport::{
        Direction,
        DEFAULT_MTU,
        FCS, //
    },
};
use std::collections::VecDeque;

/// Longest frame with its checksum, as PMTU has it.
const MAX_MTU: u16 = 9978;
/// Shortest frame, without its checksum (`ETH_ZLEN`): shorter ones are padded.
const SHORTEST: usize = 60;
/// 100GBASE-CR4, as `eth_proto_*` of PTYS has it.
const SPEED: u64 = 1 << 20;
/// Frames that wait to be delivered. Where there are as many, what comes is lost.
const MAX_WAITING: usize = 4096;
/// PAOS: up and down.
const UP: u64 = 1;
const DOWN: u64 = 2;
/// MLX5_PORT_CHANGE_SUBTYPE_*
const SUBTYPE_DOWN: u8 = 1;
const SUBTYPE_ACTIVE: u8 = 4;

/// A frame on its way to functions.
#[derive(Clone, Debug)]
struct Waiting {
    /// The function that has sent it; `None` if it comes from the wire.
    from: Option<FunctionId>,
    /// The function that it is for; `None` if it is for all others.
    to: Option<FunctionId>,
    frame: Vec<u8>,
}

/// The port.
#[derive(Clone, Debug)]
pub struct Port {
    /// The driver of the PF wants it to be up.
    enabled: bool,
    /// The other end of the wire is up.
    pub link: bool,
    mtu: u16,
    /// Pauses that the PF's driver wants to send, and to heed. There is nothing to send
    /// them for: no frame waits for the wire.
    pauses: [bool; 2],
    counters: PortCounters,
    waiting: VecDeque<Waiting>,
}

impl Port {
    /// The port after a reset.
    pub fn new(link: bool) -> Self {
        Self {
            enabled: false,
            link,
            mtu: DEFAULT_MTU,
            pauses: [false; 2],
            counters: PortCounters::default(),
            waiting: VecDeque::new(),
        }
    }

    /// Whether frames can pass.
    pub fn is_up(&self) -> bool {
        self.enabled && self.link
    }

    fn push(&mut self, from: Option<FunctionId>, to: Option<FunctionId>, frame: Vec<u8>) {
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back(Waiting { from, to, frame });
        }
    }

    /// Reads a register that ACCESS_REG names, into `data` that has what the
    /// driver gave. What is not modelled is left as it is.
    fn read(&self, id: u64, data: &mut [u8]) {
        match id {
            register::PAOS => {
                let status = |up| if up { UP } else { DOWN };
                register::PAOS_ADMIN.set(data, status(self.enabled));
                register::PAOS_OPER.set(data, status(self.is_up()));
            }
            register::PMTU => {
                register::PMTU_MAX.set(data, MAX_MTU.into());
                register::PMTU_ADMIN.set(data, self.mtu.into());
                register::PMTU_OPER.set(data, self.mtu.into());
            }
            register::PTYS => {
                register::PTYS_CAPABILITY.set(data, SPEED);
                register::PTYS_ADMIN.set(data, SPEED);
                register::PTYS_OPER.set(data, if self.is_up() { SPEED } else { 0 });
            }
            register::PFCC => {
                let fields = [register::PFCC_SEND, register::PFCC_RECEIVE];
                for (field, on) in fields.iter().zip(self.pauses) {
                    field.set(data, on.into());
                }
                for field in register::PFCC_PRIORITIES {
                    field.set(data, 0);
                }
            }
            register::PPCNT => self.counters.read(data),
            _ => (),
        }
    }

    /// Writes a register.
    fn write(&mut self, id: u64, data: &[u8]) -> Result<(), Status> {
        match id {
            register::PAOS if register::PAOS_SET.get(data) == 1 => {
                self.enabled = match register::PAOS_ADMIN.get(data) {
                    UP => true,
                    DOWN => false,
                    _ => return Err(Status::BadParam),
                };
            }
            register::PMTU => {
                let mtu = register::PMTU_ADMIN.get(data) as u16;
                if mtu > MAX_MTU {
                    return Err(Status::BadParam);
                }
                self.mtu = mtu;
            }
            register::PFCC => {
                if register::PFCC_PRIORITIES
                    .iter()
                    .any(|field| field.get(data) != 0)
                {
                    return Err(Status::BadParam);
                }
                let fields = [register::PFCC_SEND, register::PFCC_RECEIVE];
                self.pauses = fields.map(|field| field.get(data) == 1);
            }
            _ => (),
        }
        Ok(())
    }
}

impl Hca {
    /// ACCESS_REG. The port is the PF's: what a VF writes changes nothing.
    pub fn access_register(
        &mut self,
        host: &mut dyn Host,
        function: FunctionId,
        write: bool,
        id: u64,
        data: &mut [u8],
    ) -> Result<(), Status> {
        if write && function == FunctionId::PF {
            self.change_links(host, |hca| hca.port.write(id, data))?;
        }
        self.port.read(id, data);
        Ok(())
    }

    /// The other end of the wire has come or gone.
    pub fn set_link(&mut self, host: &mut dyn Host, up: bool) {
        self.noting(host, |hca, host| {
            hca.change_links(host, |hca| hca.port.link = up);
        });
    }

    /// Changes ports, and tells the drivers whose ports go up or down.
    pub fn change_links<R>(
        &mut self,
        host: &mut dyn Host,
        change: impl FnOnce(&mut Self) -> R,
    ) -> R {
        let result = change(self);
        for id in (0..self.functions.len()).map(|id| FunctionId(id as u16)) {
            self.tell_link(host, id);
        }
        result
    }

    /// Tells a driver whether the link is up, if it was told otherwise.
    pub fn tell_link(&mut self, host: &mut dyn Host, id: FunctionId) {
        let up = self.vport_is_up(id);
        let suspended = self.is_suspended(id);
        let function = &mut self.functions[usize::from(id.0)];
        if function.told_link == up || suspended {
            return;
        }
        function.told_link = up;
        let mut data = [0; 28];
        // The port's number is in the high half.
        data[8] = 1 << 4;
        let subtype = if up { SUBTYPE_ACTIVE } else { SUBTYPE_DOWN };
        self.post_subevent(host, id, (event::PORT_CHANGE, subtype), &data);
    }

    /// A function sends a frame.
    pub fn transmit(&mut self, host: &mut dyn Host, id: FunctionId, mut frame: Vec<u8>) {
        frame.resize(frame.len().max(SHORTEST), 0);
        let fits = frame.len() + FCS <= usize::from(self.port.mtu);
        let up = self.vport_is_up(id);
        let vport = &mut self.functions[usize::from(id.0)].vport;
        if !fits || !up {
            vport.count_error(Direction::Transmit, &frame);
            return;
        }
        vport.count(Direction::Transmit, &frame);
        self.forward(host, Some(id), frame);
    }

    /// Has a frame go from a function, or the wire, to where it belongs: that says the
    /// e-switch, if it was set up. Without it, a frame goes to the wire and to the other
    /// functions. Which frames they take is up to their flow tables.
    fn forward(&mut self, host: &mut dyn Host, from: Option<FunctionId>, frame: Vec<u8>) {
        let now = host.now();
        if !self.eswitch.is_on() {
            if from.is_some() {
                self.send(host, &frame);
            }
            if from.is_none() || self.functions.len() > 1 {
                self.port.push(from, None, frame);
                host.wake_at(now);
            }
            return;
        }
        if from.is_none() && !self.mpfs_accepts(&frame) {
            return;
        }
        let port = from.map_or(UPLINK, |id| id.0);
        let counters = &mut self.functions[usize::from(FunctionId::PF.0)]
            .objects
            .flow_counters;
        let forwarded = self.eswitch.forward(port, frame, counters);
        let looks = self.eswitch.take_looks();
        self.turn.forwarded(forwarded.len(), looks);
        for (port, frame) in forwarded {
            if port == UPLINK {
                self.send(host, &frame);
            } else {
                self.port.push(from, Some(FunctionId(port)), frame);
                host.wake_at(now);
            }
        }
    }

    /// Sends a frame over the wire.
    fn send(&mut self, host: &mut dyn Host, frame: &[u8]) {
        if self.port.is_up() {
            self.port.counters.sent(frame);
            host.send_frame(frame);
        }
    }

    /// A frame has come over the wire. It is delivered later: its sender may be in
    /// the middle of sending.
    pub fn frame_arrived(&mut self, host: &mut dyn Host, frame: &[u8]) {
        if !self.port.is_up() {
            return;
        }
        if frame.len() + FCS > usize::from(self.port.mtu) {
            self.port.counters.too_long += 1;
            return;
        }
        self.port.counters.received(frame);
        self.forward(host, None, frame.to_vec());
    }

    /// Delivers the frames that wait, or as many as fit into this turn.
    pub fn deliver_frames(&mut self, host: &mut dyn Host) {
        while self.turn.receives > 0 {
            let Some(Waiting { from, to, frame }) = self.port.waiting.pop_front() else {
                return;
            };
            for id in (0..self.functions.len()).map(|id| FunctionId(id as u16)) {
                let is_for = to.is_none_or(|to| to == id) && from != Some(id);
                if is_for && self.functions[usize::from(id.0)].up && self.vport_is_up(id) {
                    self.receive_frame(host, id, &frame);
                }
            }
        }
        if !self.port.waiting.is_empty() {
            self.go_on_later(host);
        }
    }
}

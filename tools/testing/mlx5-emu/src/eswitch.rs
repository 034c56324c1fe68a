// SPDX-License-Identifier: GPL-2.0

//! The e-switch in legacy mode: joins the ports of the functions and the wire as its
//! manager wants, the driver of the PF.
//!
//! There is no switchdev mode. Nothing says that an e-switch has none, but what
//! that mode needs is refused: to match the send queue that a packet comes from, and to
//! change packets in flow tables.

use crate::{
    flow_counter::FlowCounters,
    hca::Hca,
    host::{
        FunctionId,
        Host, //
    },
    ifc::{
        eswitch::{
            esw_vport,
            EVENT_VPORT,
            UPLINK, //
        },
        event,
        Status, //
    },
    mpfs::Mpfs,
    packet::{
        self,
        Key,
        Packet, //
    },
    steering::{
        kind::Kind,
        Destination,
        FlowTables, //
    },
};
use std::collections::BTreeSet;

/// What its manager wants a port to be (MLX5_VPORT_ADMIN_STATE_*).
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum AdminState {
    /// Down.
    Down = 0,
    /// Up, whatever the wire is.
    Up = 1,
    /// As the wire is.
    #[default]
    Auto = 2,
}

impl AdminState {
    /// The state with this number.
    pub fn from_number(number: u64) -> Option<Self> {
        let mut states = [Self::Down, Self::Up, Self::Auto].into_iter();
        states.find(|state| *state as u64 == number)
    }
}

/// The side of a function's port that its manager sees.
#[derive(Clone, Debug)]
pub struct EswPort {
    /// What its manager wants it to be.
    pub admin: AdminState,
    /// esw_vport_context: the tag that frames get and lose.
    context: Vec<u8>,
    ingress: FlowTables,
    egress: FlowTables,
}

impl EswPort {
    fn new() -> Self {
        Self {
            admin: AdminState::default(),
            context: vec![0; esw_vport::LEN],
            ingress: FlowTables::new(Kind::IngressAcl),
            egress: FlowTables::new(Kind::EgressAcl),
        }
    }

    /// QUERY_ESW_VPORT_CONTEXT.
    pub fn context(&self) -> &[u8] {
        &self.context
    }

    /// MODIFY_ESW_VPORT_CONTEXT.
    pub fn modify(&mut self, select: u64, new: &[u8]) -> Result<(), Status> {
        let known = esw_vport::SELECT_STRIP | esw_vport::SELECT_INSERT;
        let insert = esw_vport::INSERT.get(new);
        if select & !known != 0 || insert > esw_vport::INSERT_IF_UNTAGGED {
            return Err(Status::BadParam);
        }
        if new.len() < esw_vport::LEN {
            return Err(Status::BadInputLen);
        }
        let tag = [
            esw_vport::INSERT,
            esw_vport::PRIORITY,
            esw_vport::CFI,
            esw_vport::VLAN,
        ];
        for (bit, fields) in [
            (esw_vport::SELECT_STRIP, &[esw_vport::STRIP][..]),
            (esw_vport::SELECT_INSERT, &tag),
        ] {
            for field in fields.iter().filter(|_| select & bit != 0) {
                field.set(&mut self.context, field.get(new));
            }
        }
        Ok(())
    }

    /// The tag that frames without one get.
    fn tag(&self) -> Option<u16> {
        let [insert, priority, cfi, vlan] = [
            esw_vport::INSERT,
            esw_vport::PRIORITY,
            esw_vport::CFI,
            esw_vport::VLAN,
        ]
        .map(|field| field.get(&self.context) as u16);
        (insert != 0).then_some((priority << 13) | (cfi << 12) | vlan)
    }

    fn strips_tag(&self) -> bool {
        esw_vport::STRIP.get(&self.context) == 1
    }
}

/// All that the manager has set up.
#[derive(Clone, Debug)]
pub struct Eswitch {
    /// Where packets go.
    fdb: FlowTables,
    /// The ports, by the numbers of their functions.
    pub ports: Vec<EswPort>,
    /// What comes in from the wire.
    pub mpfs: Mpfs,
    /// Looks into tables since they were counted last.
    looks: usize,
}

/// Whether tables let a packet pass, which they count.
fn allow(tables: &FlowTables, counters: &mut FlowCounters, key: &Key, len: usize) -> bool {
    let found = tables.find(key);
    found.count(counters, len);
    !found.entries.iter().any(|entry| entry.drops())
}

impl Eswitch {
    /// An e-switch for this number of functions, with nothing set up.
    pub fn new(functions: usize) -> Self {
        Self {
            fdb: FlowTables::new(Kind::Fdb),
            ports: vec![EswPort::new(); functions],
            mpfs: Mpfs::default(),
            looks: 0,
        }
    }

    /// Whether it is in use: there is an FDB.
    pub fn is_on(&self) -> bool {
        self.fdb.has_root()
    }

    /// Tables of a type, of this port if they are of one.
    pub fn tables(&mut self, kind: Kind, port: FunctionId) -> Option<&mut FlowTables> {
        let of_port = self.ports.get_mut(usize::from(port.0))?;
        match kind {
            Kind::NicReceive => None,
            Kind::IngressAcl => Some(&mut of_port.ingress),
            Kind::EgressAcl => Some(&mut of_port.egress),
            Kind::Fdb => Some(&mut self.fdb),
        }
    }

    fn all_tables(&self) -> impl Iterator<Item = &FlowTables> {
        let of_ports = self
            .ports
            .iter()
            .flat_map(|port| [&port.ingress, &port.egress]);
        of_ports.chain([&self.fdb])
    }

    /// Whether a table counts with this counter of its manager.
    pub fn uses_counter(&self, counter: u32) -> bool {
        self.all_tables().any(|tables| tables.uses_counter(counter))
    }

    /// How much there is of what its manager has to undo.
    pub fn counts(&self) -> [(&'static str, usize); 2] {
        [
            (
                "flow tables of the e-switch",
                self.all_tables().map(FlowTables::len).sum(),
            ),
            ("entries of the L2 table", self.mpfs.len()),
        ]
    }

    /// A frame gets in through a port, which may give it a tag.
    fn enter(&mut self, port: u16, frame: Vec<u8>, counters: &mut FlowCounters) -> Option<Vec<u8>> {
        if port == UPLINK {
            return Some(frame);
        }
        let of_port = self.ports.get(usize::from(port))?;
        let packet = Packet::parse(&frame)?;
        let key = packet.key(&frame, port);
        self.looks += of_port.ingress.masks();
        if !allow(&of_port.ingress, counters, &key, frame.len()) {
            return None;
        }
        let untagged = packet.vlan.is_none_or(|vlan| vlan.service);
        match of_port.tag() {
            Some(tag) if untagged => Some(packet::insert_vlan(&frame, tag)),
            _ => Some(frame),
        }
    }

    /// A frame gets out through a port, which may take its tag.
    fn leave(
        &mut self,
        port: u16,
        (frame, packet, key): (&[u8], &Packet, &Key),
        counters: &mut FlowCounters,
    ) -> Option<Vec<u8>> {
        if port == UPLINK {
            return Some(frame.to_vec());
        }
        let of_port = self.ports.get(usize::from(port))?;
        self.looks += of_port.egress.masks();
        if !allow(&of_port.egress, counters, key, frame.len()) {
            return None;
        }
        let stripped = match of_port.strips_tag() {
            true => packet::strip_vlan(frame, packet),
            false => None,
        };
        Some(stripped.map_or_else(|| frame.to_vec(), |(frame, _)| frame))
    }

    /// Looks into tables that there were since this was asked last.
    pub fn take_looks(&mut self) -> usize {
        std::mem::take(&mut self.looks)
    }

    /// Has a frame go from a port to others. Returns these, each with what gets there.
    /// What a function sends and no entry of the FDB is for goes to the wire; what comes
    /// from there and is for nobody is dropped. No frame goes back to where it came from. The
    /// tables of ports count with counters of the manager.
    pub fn forward(
        &mut self,
        from: u16,
        frame: Vec<u8>,
        counters: &mut FlowCounters,
    ) -> Vec<(u16, Vec<u8>)> {
        let Some(frame) = self.enter(from, frame, counters) else {
            return Vec::new();
        };
        let Some(packet) = Packet::parse(&frame) else {
            return Vec::new();
        };
        let key = packet.key(&frame, from);
        let found = self.fdb.find(&key);
        self.looks += found.looks;
        let destinations = found.entries.iter().flat_map(|entry| &entry.destinations);
        let ports = destinations.filter_map(|destination| match *destination {
            Destination::Vport(port) => Some(port),
            _ => None,
        });
        let mut to: BTreeSet<u16> = ports.collect();
        if found.missed {
            to.insert(UPLINK);
        }
        to.remove(&from);
        to.into_iter()
            .filter_map(|port| {
                let left = self.leave(port, (&frame, &packet, &key), counters)?;
                Some((port, left))
            })
            .collect()
    }
}

impl Hca {
    /// Whether frames get through the port of a function.
    pub fn vport_is_up(&self, id: FunctionId) -> bool {
        match self.eswitch.ports[usize::from(id.0)].admin {
            AdminState::Down => false,
            AdminState::Up => true,
            AdminState::Auto => self.port.is_up(),
        }
    }

    /// Whether a frame gets from the wire to the e-switch: anything does if a function
    /// wants everything.
    pub fn mpfs_accepts(&self, frame: &[u8]) -> bool {
        let mut functions = self.functions.iter();
        self.eswitch.mpfs.accepts(frame) || functions.any(|f| f.vport.is_promiscuous())
    }

    /// Tells the manager of ports that have changed, if it wants to know. Of one that is
    /// suspended it is told later: what a VF has loaded has another VF's addresses, which may
    /// still receive.
    pub fn tell_changes(&mut self, host: &mut dyn Host) {
        for number in 0..self.functions.len() {
            let function = &mut self.functions[number];
            if !function.is_suspended() && function.vport.take_change() {
                let mut data = [0; 28];
                data[EVENT_VPORT].copy_from_slice(&(number as u16).to_be_bytes());
                self.post_event(host, FunctionId::PF, event::NIC_VPORT_CHANGE, &data);
            }
        }
    }

    /// The driver of the PF has let it go: nothing that it has set up is left but the
    /// addresses that it has given.
    pub fn release_eswitch(&mut self) {
        self.eswitch = Eswitch::new(self.functions.len());
        for function in &mut self.functions {
            function.vport.disarm();
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Virtual ports: what a function's driver says of its addresses, and counters.

use crate::{
    encoded::{
        list_len,
        BYTE,
        U64, //
    },
    host::FunctionId,
    ifc::{
        ethernet::vport,
        Field,
        Status, //
    },
    resources::Saved, //
};
use serde::{
    Deserialize,
    Serialize, //
};

/// Most entries of a list, as a shift.
pub const LOG_MAX_LIST: u64 = 7;
/// Kinds of lists (MLX5_NVPRT_LIST_TYPE_*): unicast, multicast, VLANs.
const LISTS: usize = 3;
/// Bytes of an entry.
const ENTRY: usize = 8;
/// Bytes of a frame that a port counts beside what a driver sees: its checksum.
pub const FCS: usize = 4;
/// What the MTU is before a driver sets it: 1500 with the header, a tag and the
/// checksum.
pub const DEFAULT_MTU: u16 = 1522;

/// The address of a port.
pub type Mac = [u8; 6];

/// Frames and their bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Deserialize, Serialize)]
pub struct Traffic {
    /// Frames.
    pub frames: u64,
    /// Bytes.
    pub octets: u64,
}

impl Traffic {
    /// Counts a frame.
    pub fn count(&mut self, len: usize) {
        // As hardware's they begin anew: an image may have had any.
        self.frames = self.frames.wrapping_add(1);
        self.octets = self.octets.wrapping_add(len as u64);
    }

    fn add(&mut self, other: Self) {
        self.frames = self.frames.wrapping_add(other.frames);
        self.octets = self.octets.wrapping_add(other.octets);
    }
}

impl Saved for Traffic {
    const MAX_LEN: usize = 2 * U64;

    fn is_sound(&self) -> bool {
        true
    }
}

/// What QUERY_VPORT_COUNTER tells, each received and transmitted.
#[derive(Clone, Copy, Default, Debug, Deserialize, Serialize)]
pub struct Counters {
    /// Broadcast, unicast and multicast.
    ethernet: [[Traffic; 2]; 3],
    /// Frames that were not delivered or not sent.
    errors: [Traffic; 2],
}

/// Which way a frame goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// To the function.
    Receive = 0,
    /// From it.
    Transmit = 1,
}

/// A virtual port.
#[derive(Clone, Debug)]
pub struct Vport {
    context: Vec<u8>,
    lists: [Vec<u8>; LISTS],
    /// Frames.
    pub counters: Counters,
    /// Frames that came while its function was suspended. They are lost, and in no image: one
    /// that is suspended does not change while it is saved.
    missed: Traffic,
    /// What has changed since its manager was told, as [`vport::CHANGES`] has it.
    changed: u64,
}

/// What a VF's driver has said of its port.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Settings {
    fields: [u64; SAVED.len()],
    lists: [Vec<u8>; LISTS],
}

/// What is in [`Settings`]. GUIDs are those of the HCA that it is on, and the permanent
/// address is up to whoever manages that.
const SAVED: [Field; 4] = [vport::MTU, vport::PROMISC, vport::LOCAL_LB, vport::ROCE];

impl Saved for Settings {
    const MAX_LEN: usize = SAVED.len() * U64 + LISTS * list_len(ENTRY << LOG_MAX_LIST, BYTE);

    fn is_sound(&self) -> bool {
        let sane = |list: &Vec<u8>| list.len() % ENTRY == 0 && list.len() <= ENTRY << LOG_MAX_LIST;
        let mut fields = SAVED.into_iter().zip(self.fields);
        self.lists.iter().all(sane) && fields.all(|(field, value)| field.holds(value))
    }
}

impl Saved for Counters {
    const MAX_LEN: usize = (3 * 2 + 2) * 2 * U64;

    fn is_sound(&self) -> bool {
        true
    }
}

/// A GUID that differs between functions, HCAs and what it is for.
fn guid(mac: Mac, kind: u8, function: FunctionId) -> u64 {
    let [a, b, c, d, e, f] = mac;
    let [high, low] = function.0.to_be_bytes();
    u64::from_be_bytes([a, b, c ^ kind, d, e, f, high, low])
}

impl Vport {
    /// The port of a function, of an HCA whose PF has this address. As on
    /// hardware, nobody has given VFs one yet: they make one up.
    pub fn new(mac: Mac, function: FunctionId) -> Self {
        let mut context = vec![0; vport::CONTEXT_LEN];
        vport::MTU.set(&mut context, DEFAULT_MTU.into());
        vport::SYSTEM_GUID.set(&mut context, guid(mac, 0, FunctionId::PF));
        vport::PORT_GUID.set(&mut context, guid(mac, 1, function));
        vport::NODE_GUID.set(&mut context, guid(mac, 2, function));
        if function == FunctionId::PF {
            let mac = mac
                .iter()
                .fold(0, |mac, byte| (mac << 8) | u64::from(*byte));
            vport::PERMANENT.set(&mut context, mac);
        }
        Self {
            context,
            lists: Default::default(),
            counters: Counters::default(),
            missed: Traffic::default(),
            changed: 0,
        }
    }

    /// What is saved of it.
    pub fn settings(&self) -> Settings {
        Settings {
            fields: SAVED.map(|field| field.get(&self.context)),
            lists: self.lists.clone(),
        }
    }

    /// Loads that.
    pub fn load(&mut self, settings: Settings) {
        let before = self.clone();
        for (field, value) in SAVED.into_iter().zip(settings.fields) {
            field.set(&mut self.context, value);
        }
        self.lists = settings.lists;
        self.note_changes(&before);
    }

    /// Its function was reset, or its driver has let that go: what the driver has set is
    /// forgotten, and what its manager has set stays.
    pub fn reset(&mut self) {
        let mut context = vec![0; vport::CONTEXT_LEN];
        for field in [
            vport::CHANGE_EVENT,
            vport::SYSTEM_GUID,
            vport::PORT_GUID,
            vport::NODE_GUID,
            vport::PERMANENT,
        ] {
            field.set(&mut context, field.get(&self.context));
        }
        vport::MTU.set(&mut context, DEFAULT_MTU.into());
        let before = std::mem::replace(
            self,
            Self {
                context,
                lists: Default::default(),
                counters: Counters::default(),
                missed: Traffic::default(),
                changed: self.changed,
            },
        );
        self.note_changes(&before);
    }

    /// Notes in what it differs from what it was.
    fn note_changes(&mut self, before: &Self) {
        let differs = |field: Field| field.get(&self.context) != field.get(&before.context);
        let lists = self.lists.iter().zip(&before.lists).enumerate();
        let lists = lists.filter(|(_, (now, before))| now != before);
        let mut changed = lists.fold(0, |all, (list, _)| all | (1 << list));
        if differs(vport::PROMISC) {
            changed |= vport::PROMISC_CHANGE;
        }
        if differs(vport::MTU) {
            changed |= vport::MTU_CHANGE;
        }
        self.changed |= changed;
    }

    /// Whether its manager wants to be told of what has changed. It is told once, until
    /// it wants that again.
    pub fn take_change(&mut self) -> bool {
        let due = vport::ARM.get(&self.context) == 1
            && vport::CHANGES.get(&self.context) & self.changed != 0;
        if due {
            vport::ARM.set(&mut self.context, 0);
            self.changed = 0;
        }
        due
    }

    /// Its manager does not want to be told of changes any more.
    pub fn disarm(&mut self) {
        vport::CHANGE_EVENT.set(&mut self.context, 0);
    }

    /// Whether its driver wants all frames, or all that are for one function.
    pub fn is_promiscuous(&self) -> bool {
        // `promisc_uc` and `promisc_all`.
        vport::PROMISC.get(&self.context) & 0b101 != 0
    }

    /// Longest frame, with its checksum.
    pub fn mtu(&self) -> usize {
        vport::MTU.get(&self.context) as usize
    }

    /// QUERY_NIC_VPORT_CONTEXT, with the list of this type.
    pub fn query(&self, list: u64) -> Result<Vec<u8>, Status> {
        let entries = self.lists.get(list as usize).ok_or(Status::BadParam)?;
        let mut context = self.context.clone();
        vport::LIST_TYPE.set(&mut context, list);
        vport::LIST_SIZE.set(&mut context, (entries.len() / ENTRY) as u64);
        context.extend_from_slice(entries);
        Ok(context)
    }

    /// MODIFY_NIC_VPORT_CONTEXT.
    pub fn modify(&mut self, select: u64, new: &[u8]) -> Result<(), Status> {
        let fields: [(u64, Field); 7] = [
            (vport::SELECT_NODE_GUID, vport::NODE_GUID),
            (vport::SELECT_PERMANENT, vport::PERMANENT),
            (vport::SELECT_MTU, vport::MTU),
            (vport::SELECT_CHANGE_EVENT, vport::CHANGE_EVENT),
            (vport::SELECT_PROMISC, vport::PROMISC),
            (vport::SELECT_LOCAL_LB, vport::LOCAL_LB),
            (vport::SELECT_ROCE, vport::ROCE),
        ];
        let known = fields
            .iter()
            .fold(vport::SELECT_LIST, |all, (bits, _)| all | bits);
        if select & !known != 0 || new.len() < vport::CONTEXT_LEN {
            return Err(Status::BadParam);
        }
        let before = self.clone();
        if select & vport::SELECT_LIST != 0 {
            let size = vport::LIST_SIZE.get(new) as usize;
            let list = vport::LIST_TYPE.get(new) as usize;
            let list = self.lists.get_mut(list).ok_or(Status::BadParam)?;
            if size > 1 << LOG_MAX_LIST {
                return Err(Status::BadParam);
            }
            let entries = new.get(vport::LIST..vport::LIST + size * ENTRY);
            *list = entries.ok_or(Status::BadInputLen)?.to_vec();
        }
        for (_, field) in fields.iter().filter(|(bits, _)| select & bits != 0) {
            let value = field.get(new);
            field.set(&mut self.context, value);
        }
        self.note_changes(&before);
        Ok(())
    }

    /// Counts a frame.
    pub fn count(&mut self, direction: Direction, frame: &[u8]) {
        let kind = match frame {
            [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, ..] => 0,
            [first, ..] if first & 1 == 1 => 2,
            _ => 1,
        };
        self.counters.ethernet[kind][direction as usize].count(frame.len());
    }

    /// Counts a frame that is not delivered, or not sent.
    pub fn count_error(&mut self, direction: Direction, frame: &[u8]) {
        self.counters.errors[direction as usize].count(frame.len());
    }

    /// Counts a frame that comes while its function is suspended.
    pub fn miss(&mut self, frame: &[u8]) {
        self.missed.count(frame.len());
    }

    /// Its function goes on: what was missed are errors.
    pub fn resume(&mut self) {
        let missed = std::mem::take(&mut self.missed);
        self.counters.errors[Direction::Receive as usize].add(missed);
    }

    /// QUERY_VPORT_COUNTER, and `clear`.
    pub fn read_counters(&mut self, clear: bool) -> Counters {
        let mut counters = self.counters;
        counters.errors[Direction::Receive as usize].add(self.missed);
        if clear {
            self.counters = Counters::default();
            self.missed = Traffic::default();
        }
        counters
    }
}

impl Counters {
    /// QUERY_VPORT_COUNTER.
    pub fn write(&self, output: &mut [u8]) {
        let mut set = |at: usize, traffic: &Traffic| {
            let bytes = [traffic.frames, traffic.octets].map(u64::to_be_bytes);
            if let Some(counter) = output.get_mut(at..at + 16) {
                counter.copy_from_slice(&bytes.concat());
            }
        };
        set(vport::RECEIVED_ERRORS, &self.errors[0]);
        set(vport::TRANSMIT_ERRORS, &self.errors[1]);
        for (i, traffic) in self.ethernet.iter().flatten().enumerate() {
            set(vport::ETHERNET + i * 16, traffic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [2, 0, 0, 0, 0, 9];

    #[test]
    fn only_the_pf_has_an_address() {
        let pf = Vport::new(MAC, FunctionId::PF).query(0).unwrap();
        let vf = Vport::new(MAC, FunctionId(1)).query(0).unwrap();
        assert_eq!(vport::PERMANENT.get(&pf), 0x0200_0000_0009);
        assert_eq!(vport::PERMANENT.get(&vf), 0);
        let guids = |context: &[u8], field: Field| field.get(context);
        assert_eq!(
            guids(&pf, vport::SYSTEM_GUID),
            guids(&vf, vport::SYSTEM_GUID)
        );
        assert_ne!(guids(&pf, vport::NODE_GUID), guids(&vf, vport::NODE_GUID));
    }

    #[test]
    fn what_is_selected_changes() {
        let mut port = Vport::new(MAC, FunctionId::PF);
        let mut new = vec![0; vport::CONTEXT_LEN];
        vport::MTU.set(&mut new, 3022);
        vport::PROMISC.set(&mut new, 0b001);
        port.modify(vport::SELECT_PROMISC, &new).unwrap();
        assert_eq!(port.mtu(), 1522);
        port.modify(vport::SELECT_MTU, &new).unwrap();
        assert_eq!(port.mtu(), 3022);
        assert!(port.modify(1, &new).is_err());
        assert!(port.modify(vport::SELECT_MTU, &new[1..]).is_err());

        vport::LIST_TYPE.set(&mut new, 1);
        vport::LIST_SIZE.set(&mut new, 2);
        let list = vport::SELECT_LIST;
        assert_eq!(port.modify(list, &new), Err(Status::BadInputLen));
        new.extend_from_slice(&[7; 16]);
        port.modify(list, &new).unwrap();
        let context = port.query(1).unwrap();
        assert_eq!(vport::LIST_SIZE.get(&context), 2);
        assert_eq!(context[vport::LIST..], [7; 16]);
        assert_eq!(vport::PROMISC.get(&context), 0b001);
        assert_eq!(port.query(0).unwrap().len(), vport::LIST);
        assert!(port.query(3).is_err());
        vport::LIST_TYPE.set(&mut new, 3);
        assert!(port.modify(list, &new).is_err());
    }

    #[test]
    fn frames_are_counted_by_their_address() {
        let mut port = Vport::new(MAC, FunctionId::PF);
        port.count(Direction::Receive, &[0xff; 60]);
        port.count(Direction::Transmit, &[1; 70]);
        port.count(Direction::Transmit, &[2; 80]);
        port.count_error(Direction::Transmit, &[2; 90]);
        let mut output = [0; 0x110];
        port.counters.write(&mut output);
        for (at, octets) in [(0x70, 60), (0xc0, 70), (0xa0, 80), (0x20, 90)] {
            assert_eq!(output[at + 7], 1, "{at:#x}");
            assert_eq!(output[at + 15], octets, "{at:#x}");
        }
        assert_eq!(output.iter().filter(|byte| **byte != 0).count(), 8);
    }

    #[test]
    fn settings_of_an_image_are_as_long_as_their_fields() {
        let good = Vport::new(MAC, FunctionId(1)).settings();
        assert!(good.is_sound());
        for (number, field) in SAVED.into_iter().enumerate() {
            let mut settings = good.clone();
            settings.fields[number] = u64::MAX;
            assert!(!settings.is_sound(), "{field:?}");
        }
        let mut settings = good.clone();
        settings.lists[0] = vec![0; ENTRY + 1];
        assert!(!settings.is_sound());
    }
}

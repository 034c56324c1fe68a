// SPDX-License-Identifier: GPL-2.0

//! An e-switch in legacy mode, and its manager as mlx5_core is one.

use super::{
    driver::{
        command,
        Machine,
        DATA, //
    },
    tracker::{
        input,
        send, //
    },
};
use crate::{
    config::Config,
    flow_counter::FlowCounters,
    hca::Hca,
    host::FunctionId,
    ifc::{
        self,
        eswitch::{
            esw_vport,
            l2_table,
            misc,
            vport_state,
            UPLINK,
            VPORT_NUMBER, //
        },
        ethernet::{
            flow,
            headers,
            register,
            vport, //
        },
        event,
        flow_counter,
        Field,
        Status, //
    },
    packet,
    steering::kind::{
        Kind,
        ALLOW,
        COUNT,
        DROP,
        FORWARD, //
    },
};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];
const EQ: u64 = DATA;
/// Addresses of what tests send: they begin as this one.
const ADDRESS: u64 = 0x0200_0000_0100;
const GROUPS: u64 = 0x0100_0000_0000;
const ALL: u64 = 0xffff_ffff_ffff;

/// A PF whose wire is up, and two VFs; all of them receive.
struct Switch {
    machine: Machine,
    events: u64,
}

/// A table, and what the commands about it have in common.
struct Table {
    id: u64,
    kind: Kind,
    port: Option<u64>,
}

impl Table {
    fn input(&self, opcode: u16, len: usize, fields: &[(Field, u64)]) -> Vec<u8> {
        let usual = [
            (flow::TABLE_TYPE, self.kind as u64),
            (flow::TABLE, self.id),
            (flow::OTHER_VPORT, u64::from(self.port.is_some())),
            (VPORT_NUMBER, self.port.unwrap_or(0)),
        ];
        input(opcode, len, &[&usual, fields].concat())
    }
}

fn number(output: &[u8]) -> u64 {
    ifc::OBJECT.get(output)
}

/// A command about the port of a function, by another one.
fn about_port(opcode: u16, len: usize, port: u64, fields: &[(Field, u64)]) -> Vec<u8> {
    let usual = [(vport::OTHER, 1), (VPORT_NUMBER, port)];
    input(opcode, len, &[&usual, fields].concat())
}

pub(super) fn modify_context(port: u64, select: u64, fields: &[(Field, u64)]) -> Vec<u8> {
    let mut modify = about_port(
        ifc::MODIFY_NIC_VPORT_CONTEXT,
        0x200,
        port,
        &[(vport::SELECT, select)],
    );
    for (field, value) in fields {
        field.set(&mut modify[vport::MODIFY_CONTEXT..], *value);
    }
    modify
}

/// What a VF's driver says of itself: its unicast addresses.
pub(super) fn addresses(list: &[u64]) -> Vec<u8> {
    let mut modify = input(
        ifc::MODIFY_NIC_VPORT_CONTEXT,
        0x200,
        &[(vport::SELECT, vport::SELECT_LIST)],
    );
    vport::LIST_SIZE.set(&mut modify[vport::MODIFY_CONTEXT..], list.len() as u64);
    for mac in list {
        modify.extend_from_slice(&mac.to_be_bytes());
    }
    modify
}

fn frame(to: u64, from: u64) -> Vec<u8> {
    let mac = |mac: u64| mac.to_be_bytes()[2..].to_vec();
    [mac(to), mac(from), vec![0x88, 0xb5], vec![0x55; 50]].concat()
}

impl Switch {
    fn new() -> Self {
        let mut machine = Machine::new(Config {
            vfs: 2,
            network: Some(MAC),
            ..Config::default()
        });
        for function in 0..3 {
            let fields = [(ifc::FUNCTION_ID, function)];
            send(&mut machine, &input(ifc::ENABLE_HCA, 16, &fields));
            machine.hca.functions[function as usize].up = true;
            take_all(&mut machine.hca, function as u16);
        }
        let mut paos = command(ifc::ACCESS_REG, 0, 0x20);
        register::ID.set(&mut paos, register::PAOS);
        register::PAOS_ADMIN.set(&mut paos[register::DATA..], 1);
        register::PAOS_SET.set(&mut paos[register::DATA..], 1);
        send(&mut machine, &paos);
        let mut switch = Self { machine, events: 0 };
        switch.create_eq(event::NIC_VPORT_CHANGE);
        switch
    }

    /// An EQ of the function that is driven, for events of this type.
    fn create_eq(&mut self, kind: u8) {
        let uar = number(&self.send(&command(ifc::ALLOC_UAR, 0, 16)));
        let fields = [
            (ifc::EQ_LOG_SIZE, 5),
            (ifc::EQ_UAR, uar),
            (ifc::EQ_EVENTS, 1 << kind),
        ];
        let mut eq = input(ifc::CREATE_EQ, ifc::EQ_PAS, &fields);
        eq.extend_from_slice(&EQ.to_be_bytes());
        self.machine.memory.bytes[EQ as usize..][..0x1000].fill(0);
        self.send(&eq);
        self.events = 0;
    }

    /// Type, subtype and data of the next event.
    fn event(&mut self) -> Option<(u8, u8, Vec<u8>)> {
        let eqe = &self.machine.memory.bytes[(EQ + self.events * 64) as usize..][..64];
        if eqe[1] == 0 {
            return None;
        }
        self.events += 1;
        Some((eqe[1], eqe[3], eqe[32..60].to_vec()))
    }

    /// The port that the next event says has changed.
    fn changed(&mut self) -> Option<u16> {
        let (kind, _, data) = self.event()?;
        assert_eq!(kind, event::NIC_VPORT_CHANGE);
        Some(u16::from_be_bytes([data[2], data[3]]))
    }

    fn drive(&mut self, function: u16) {
        self.machine.drive(FunctionId(function));
    }

    fn send(&mut self, input: &[u8]) -> Vec<u8> {
        send(&mut self.machine, input)
    }

    fn refused(&mut self, input: &[u8]) -> u8 {
        let violations = self.machine.hca.violations;
        let status = self.machine.send(input, 0x80).status();
        assert_ne!(status, 0);
        assert!(self.machine.hca.violations > violations);
        status
    }

    fn table_of_level(&mut self, level: u64, kind: Kind, port: Option<u64>) -> Table {
        let mut table = Table { id: 0, kind, port };
        let mut create = table.input(ifc::CREATE_FLOW_TABLE, 0x40, &[]);
        flow::LOG_SIZE.set(&mut create[flow::TABLE_CONTEXT..], 4);
        flow::LEVEL.set(&mut create[flow::TABLE_CONTEXT..], level);
        table.id = number(&self.send(&create));
        table
    }

    /// The root of tables of a kind.
    fn table(&mut self, kind: Kind, port: Option<u64>) -> Table {
        let table = self.table_of_level(0, kind, port);
        let root = table.input(ifc::SET_FLOW_TABLE_ROOT, 0x40, &[]);
        self.send(&root);
        table
    }

    /// A group of the entries from `first` to `last`, with a mask.
    fn group(&mut self, table: &Table, (first, last): (u64, u64), mask: &[(Field, u64)]) -> u64 {
        let of_misc = |(field, _): &&(Field, u64)| field.bits().start >= headers::LEN * 8;
        let criteria = mask
            .iter()
            .fold(0, |all, one| all | if of_misc(&one) { 2 } else { 1 });
        let fields = [
            (flow::GROUP_START, first),
            (flow::GROUP_END, last),
            (flow::CRITERIA, criteria),
        ];
        let mut create = table.input(ifc::CREATE_FLOW_GROUP, 0x400, &fields);
        for (field, value) in mask {
            field.set(&mut create[flow::MASK..], *value);
        }
        number(&self.send(&create))
    }

    /// An FDB as that of mlx5_core, with the addresses of the functions.
    fn fdb(&mut self) -> Table {
        let table = self.table(Kind::Fdb, None);
        let addresses = self.group(&table, (0, 13), &[(headers::DMAC, ALL)]);
        for port in 0..3 {
            let value = [(headers::DMAC, ADDRESS + port)];
            self.send(&entry(
                &table,
                (addresses, port),
                &value,
                (FORWARD, &[port]),
            ));
        }
        table
    }

    /// Has a function, or the wire, send a frame. Returns the functions that hear it, and
    /// the frame that is sent over the wire.
    fn hear(&mut self, from: Option<u16>, frame: &[u8]) -> (Vec<u16>, Option<Vec<u8>>) {
        let Machine { hca, memory, .. } = &mut self.machine;
        memory.sent.clear();
        let before = [0, 1, 2].map(|port| received(hca, port));
        match from {
            Some(from) => hca.transmit(memory, FunctionId(from), frame.to_vec()),
            None => hca.frame_arrived(memory, frame),
        }
        hca.timer(memory);
        let mut heard = vec![0, 1, 2];
        heard.retain(|port| received(hca, *port) != before[usize::from(*port)]);
        (heard, memory.sent.pop())
    }

    /// Packets and bytes of a flow counter.
    fn counted(&mut self, counter: u64, clear: u64) -> (u64, u64) {
        let fields = [
            (flow_counter::QUERY_ID, counter),
            (flow_counter::CLEAR, clear),
        ];
        let query = input(ifc::QUERY_FLOW_COUNTER, 0x20, &fields);
        let output = self.send(&query);
        let traffic = &output[flow_counter::STATISTICS..];
        (
            flow_counter::PACKETS.get(traffic),
            flow_counter::OCTETS.get(traffic),
        )
    }

    fn link(&mut self, op_mod: u16) -> u64 {
        vport::STATE.get(&self.send(&command(ifc::QUERY_VPORT_STATE, op_mod, 16)))
    }
}

/// Frames that a function has received.
fn received(hca: &Hca, port: u16) -> u64 {
    let mut counters = vec![0; 0x110];
    let function = &hca.functions[usize::from(port)];
    function.vport.counters.write(&mut counters);
    // Those of broadcast, unicast and multicast, each before what is transmitted.
    let kinds = counters[vport::ETHERNET..].chunks(0x20).take(3);
    kinds.map(|kind| ifc::field(0, 0, 64).get(kind)).sum()
}

/// Has a function take all frames that come to it: what they find is no TIR.
fn take_all(hca: &mut Hca, function: u16) {
    let tables = &mut hca.objects(FunctionId(function)).flow_tables;
    let mut table = Table {
        id: 0,
        kind: Kind::NicReceive,
        port: None,
    };
    let create = table.input(ifc::CREATE_FLOW_TABLE, 0x40, &[]);
    table.id = tables.create_table(&create).unwrap().into();
    let root = table.input(ifc::SET_FLOW_TABLE_ROOT, 0x40, &[]);
    tables.set_root(0, &root).unwrap();
    let group = table.input(ifc::CREATE_FLOW_GROUP, 0x400, &[]);
    let group = tables.create_group(&group).unwrap();
    // Type 2 is that of TIRs.
    let entry = entry(&table, (group.into(), 0), &[], (FORWARD, &[(2 << 24) | 1]));
    tables.set_entry(0, &entry, |_| true).unwrap();
}

/// An entry with destinations, or with counters.
fn entry(
    table: &Table,
    (group, index): (u64, u64),
    value: &[(Field, u64)],
    (action, list): (u64, &[u64]),
) -> Vec<u8> {
    let len = flow::CONTEXT + flow::DESTINATION;
    let mut entry = table.input(ifc::SET_FLOW_TABLE_ENTRY, len, &[(flow::INDEX, index)]);
    let context = &mut entry[flow::CONTEXT..];
    let counts = action & COUNT != 0;
    let len = list.len() as u64;
    for (field, value) in [
        (flow::CONTEXT_GROUP, group),
        (flow::ACTION, action),
        (flow::DESTINATIONS, if counts { 0 } else { len }),
        (flow::COUNTERS, if counts { len } else { 0 }),
    ] {
        field.set(context, value);
    }
    for (field, value) in value {
        field.set(&mut context[flow::VALUE..], *value);
    }
    for id in list {
        // Ports have type 0, counters no type.
        entry.extend_from_slice(&(id << 32).to_be_bytes());
    }
    entry
}

#[test]
fn without_an_fdb_frames_go_everywhere() {
    let mut switch = Switch::new();
    let frame = frame(ADDRESS, ADDRESS + 1);
    assert_eq!(
        switch.hear(Some(1), &frame),
        (vec![0, 2], Some(frame.clone()))
    );
    assert_eq!(switch.hear(None, &frame), (vec![0, 1, 2], None));
}

#[test]
fn the_fdb_says_where_frames_go() {
    let mut switch = Switch::new();
    let table = switch.fdb();
    let to = |port: u64| frame(ADDRESS + port, ADDRESS + 0x10);
    assert_eq!(switch.hear(Some(1), &to(2)), (vec![2], None));
    assert_eq!(switch.hear(Some(2), &to(0)), (vec![0], None));
    assert_eq!(switch.hear(Some(2), &to(2)), (vec![], None), "not back");
    assert_eq!(switch.hear(Some(0), &to(9)), (vec![], Some(to(9))));
    assert_eq!(
        switch.hear(None, &to(1)),
        (vec![], None),
        "the MPFS stops it"
    );
    let mut set = input(ifc::SET_L2_TABLE_ENTRY, 0x40, &[(l2_table::INDEX, 3)]);
    set[l2_table::MAC].copy_from_slice(&(ADDRESS + 1).to_be_bytes()[2..]);
    switch.send(&set);
    assert_eq!(switch.hear(None, &to(1)), (vec![1], None));
    assert_eq!(switch.hear(None, &to(9)), (vec![], None));

    // A group, as a function and the wire have joined it.
    let groups = switch.group(&table, (14, 14), &[(headers::DMAC, GROUPS)]);
    let value = [(headers::DMAC, GROUPS)];
    let all = [1, 2, UPLINK.into()];
    switch.send(&entry(&table, (groups, 14), &value, (FORWARD, &all)));
    let group = frame(GROUPS | 5, ADDRESS);
    assert_eq!(
        switch.hear(Some(0), &group),
        (vec![1, 2], Some(group.clone()))
    );
    assert_eq!(switch.hear(Some(1), &group), (vec![2], Some(group.clone())));
    assert_eq!(switch.hear(None, &group), (vec![1, 2], None));

    // What comes from the wire, and is for nobody else.
    let port = misc::SOURCE_PORT;
    let rest = switch.group(&table, (15, 15), &[(port, 0xffff)]);
    let value = [(port, UPLINK.into())];
    switch.send(&entry(&table, (rest, 15), &value, (FORWARD, &[0])));
    assert_eq!(switch.hear(Some(1), &to(9)), (vec![], Some(to(9))));
    assert_eq!(
        switch.hear(None, &to(9)),
        (vec![], None),
        "the MPFS stops it"
    );
    let promiscuous = [(vport::PROMISC, 0b001)];
    switch.send(&modify_context(0, vport::SELECT_PROMISC, &promiscuous));
    assert_eq!(switch.hear(None, &to(9)), (vec![0], None));
    assert_eq!(switch.hear(None, &to(1)), (vec![1], None));
    assert_eq!(switch.machine.hca.violations, 0);
}

#[test]
fn a_port_lets_in_what_its_acl_allows() {
    let mut switch = Switch::new();
    switch.fdb();
    let counter = switch.send(&command(ifc::ALLOC_FLOW_COUNTER, 0, 16));
    let counter = flow_counter::ID.get(&counter);
    let acl = switch.table(Kind::IngressAcl, Some(1));
    let right = switch.group(&acl, (0, 0), &[(headers::SMAC, ALL)]);
    let rest = switch.group(&acl, (1, 1), &[]);
    let value = [(headers::SMAC, ADDRESS + 1)];
    switch.send(&entry(&acl, (right, 0), &value, (ALLOW, &[])));
    switch.send(&entry(&acl, (rest, 1), &[], (DROP | COUNT, &[counter])));
    let (right, wrong) = (frame(ADDRESS, ADDRESS + 1), frame(ADDRESS, ADDRESS + 2));
    assert_eq!(switch.hear(Some(1), &right), (vec![0], None));
    assert_eq!(switch.counted(counter, 0), (0, 0));
    for _ in 0..2 {
        assert_eq!(switch.hear(Some(1), &wrong), (vec![], None));
    }
    assert_eq!(
        switch.hear(Some(2), &wrong),
        (vec![0], None),
        "another port"
    );
    assert_eq!(switch.counted(counter, 1), (2, 2 * wrong.len() as u64));
    assert_eq!(switch.counted(counter, 0), (0, 0));

    let dealloc = input(
        ifc::DEALLOC_FLOW_COUNTER,
        16,
        &[(flow_counter::ID, counter)],
    );
    assert_eq!(switch.refused(&dealloc), Status::BadResState as u8);
    // The same one counts what the manager itself receives.
    let nic = switch.table(Kind::NicReceive, None);
    let all = switch.group(&nic, (0, 0), &[]);
    switch.send(&entry(&nic, (all, 0), &[], (COUNT, &[counter])));
    switch.hear(Some(1), &right);
    assert_eq!(switch.counted(counter, 0), (1, right.len() as u64));
    switch.hear(Some(1), &wrong);
    assert_eq!(switch.counted(counter, 0).0, 2);
    let delete = acl.input(ifc::DELETE_FLOW_TABLE_ENTRY, 0x40, &[(flow::INDEX, 1)]);
    switch.send(&delete);
    assert_eq!(switch.refused(&dealloc), Status::BadResState as u8);
    let delete = nic.input(ifc::DELETE_FLOW_TABLE_ENTRY, 0x40, &[(flow::INDEX, 0)]);
    switch.send(&delete);
    take_all(&mut switch.machine.hca, 0);
    switch.send(&dealloc);
    assert_eq!(switch.refused(&dealloc), Status::BadRes as u8);
    assert_eq!(switch.hear(Some(1), &wrong), (vec![0], None));
}

#[test]
fn a_port_gives_and_takes_tags() {
    let mut switch = Switch::new();
    switch.fdb();
    let mut modify = about_port(
        ifc::MODIFY_ESW_VPORT_CONTEXT,
        0x110,
        1,
        &[(
            esw_vport::SELECT,
            esw_vport::SELECT_STRIP | esw_vport::SELECT_INSERT,
        )],
    );
    for (field, value) in [
        (esw_vport::STRIP, 1),
        (esw_vport::INSERT, esw_vport::INSERT_IF_UNTAGGED),
        (esw_vport::PRIORITY, 3),
        (esw_vport::VLAN, 100),
    ] {
        field.set(&mut modify[esw_vport::CONTEXT..], value);
    }
    switch.send(&modify);
    let query = about_port(ifc::QUERY_ESW_VPORT_CONTEXT, 16, 1, &[]);
    let context = switch.machine.send(&query, 0x110).output;
    assert_eq!(esw_vport::VLAN.get(&context[esw_vport::CONTEXT..]), 100);

    // It may only receive what has its tag.
    let acl = switch.table(Kind::EgressAcl, Some(1));
    let mask = [(headers::CVLAN, 1), (headers::FIRST_TAG, 0xfff)];
    let right = switch.group(&acl, (0, 0), &mask);
    let rest = switch.group(&acl, (1, 1), &[]);
    let value = [(headers::CVLAN, 1), (headers::FIRST_TAG, 100)];
    switch.send(&entry(&acl, (right, 0), &value, (ALLOW, &[])));
    switch.send(&entry(&acl, (rest, 1), &[], (DROP, &[])));

    let plain = frame(ADDRESS + 9, ADDRESS + 1);
    let tagged = packet::insert_vlan(&plain, (3 << 13) | 100);
    assert_eq!(switch.hear(Some(1), &plain), (vec![], Some(tagged)));
    let other = packet::insert_vlan(&plain, 7);
    assert_eq!(switch.hear(Some(1), &other), (vec![], Some(other.clone())));

    let plain = frame(ADDRESS + 1, ADDRESS);
    let tagged = packet::insert_vlan(&plain, 100);
    let eswitch = &mut switch.machine.hca.eswitch;
    let mut forward = |frame| eswitch.forward(0, frame, &mut FlowCounters::default());
    assert_eq!(forward(tagged), [(1, plain.clone())]);
    assert_eq!(forward(plain.clone()), []);
    assert_eq!(forward(packet::insert_vlan(&plain, 101)), []);
    assert_eq!(switch.machine.hca.violations, 0);
}

#[test]
fn a_vf_has_the_address_that_its_manager_gives_it() {
    let mut switch = Switch::new();
    let given = [
        (vport::PERMANENT, ADDRESS + 1),
        (vport::NODE_GUID, 0x1234_5678_9abc_def0),
    ];
    let select = vport::SELECT_PERMANENT | vport::SELECT_NODE_GUID;
    switch.send(&modify_context(1, select, &given));
    let check = |switch: &mut Switch, query: &[u8]| {
        let context = switch.machine.send(query, 0x110).output;
        for (field, value) in given {
            assert_eq!(field.get(&context[vport::QUERY_CONTEXT..]), value);
        }
    };
    check(
        &mut switch,
        &about_port(ifc::QUERY_NIC_VPORT_CONTEXT, 16, 1, &[]),
    );
    // It stays when the VF is reset, disabled and enabled, and has another driver.
    switch.machine.hca.reset(FunctionId(1));
    for opcode in [ifc::DISABLE_HCA, ifc::ENABLE_HCA] {
        switch.send(&input(opcode, 16, &[(ifc::FUNCTION_ID, 1)]));
    }
    switch.drive(1);
    for opcode in [ifc::ENABLE_HCA, ifc::DISABLE_HCA] {
        switch.send(&command(opcode, 0, 16));
        check(&mut switch, &command(ifc::QUERY_NIC_VPORT_CONTEXT, 0, 16));
    }
    // It does not stay when the HCA is reset.
    switch.machine.hca.reset(FunctionId::PF);
    let context = switch.machine.hca.functions[1].vport.query(0).unwrap();
    assert_eq!(vport::PERMANENT.get(&context), 0);
}

#[test]
fn the_manager_is_told_once_of_changes() {
    let mut switch = Switch::new();
    let arm = |changes: u64| {
        let fields = [(vport::ARM, 1), (vport::CHANGES, changes)];
        modify_context(1, vport::SELECT_CHANGE_EVENT, &fields)
    };
    let change = |switch: &mut Switch, mac: u64| {
        switch.drive(1);
        switch.send(&addresses(&[mac]));
        switch.drive(0);
    };
    switch.send(&arm(0b01011));
    assert_eq!(switch.changed(), None);
    change(&mut switch, 1);
    assert_eq!(switch.changed(), Some(1));
    change(&mut switch, 2);
    assert_eq!(switch.changed(), None);
    // Of a change meanwhile it is told at once.
    switch.send(&arm(0b01011));
    assert_eq!(switch.changed(), Some(1));
    switch.send(&arm(0b01011));
    change(&mut switch, 2);
    assert_eq!(switch.changed(), None, "that is the same address");
    // A reset takes the address away.
    let Machine { hca, memory, .. } = &mut switch.machine;
    hca.reset(FunctionId(1));
    hca.tell_changes(memory);
    assert_eq!(switch.changed(), Some(1));
    switch.send(&arm(0b01000));
    change(&mut switch, 3);
    assert_eq!(switch.changed(), None);
    switch.drive(1);
    switch.send(&{
        let select = [(vport::SELECT, vport::SELECT_PROMISC)];
        let mut modify = input(ifc::MODIFY_NIC_VPORT_CONTEXT, 0x200, &select);
        vport::PROMISC.set(&mut modify[vport::MODIFY_CONTEXT..], 0b001);
        modify
    });
    assert_eq!(switch.changed(), Some(1));
    // Nobody is there any more.
    switch.drive(0);
    switch.send(&arm(0b01011));
    switch.machine.hca.release(FunctionId::PF);
    switch.create_eq(event::NIC_VPORT_CHANGE);
    change(&mut switch, 4);
    assert_eq!(switch.changed(), None);
}

#[test]
fn a_port_is_as_its_manager_wants() {
    let mut switch = Switch::new();
    switch.fdb();
    switch.drive(1);
    switch.create_eq(event::PORT_CHANGE);
    let set = |switch: &mut Switch, state: u64| {
        switch.drive(0);
        let mut modify = about_port(ifc::MODIFY_VPORT_STATE, 16, 1, &[]);
        ifc::OP_MOD.set(&mut modify, vport_state::OF_ESWITCH);
        vport_state::ADMIN_STATE.set(&mut modify, state);
        switch.send(&modify);
        let mut query = about_port(ifc::QUERY_VPORT_STATE, 16, 1, &[]);
        ifc::OP_MOD.set(&mut query, vport_state::OF_ESWITCH);
        assert_eq!(vport_state::ADMIN_STATE.get(&switch.send(&query)), state);
        switch.drive(1);
    };
    let subtype = |switch: &mut Switch| switch.event().map(|(_, subtype, _)| subtype);
    let (to, from) = (frame(ADDRESS + 1, ADDRESS), frame(ADDRESS, ADDRESS + 1));
    assert_eq!(switch.link(0), 1);
    set(&mut switch, 0);
    assert_eq!((switch.link(0), subtype(&mut switch)), (0, Some(1)));
    assert_eq!(switch.hear(Some(1), &from), (vec![], None));
    assert_eq!(switch.hear(Some(0), &to), (vec![], None));
    set(&mut switch, 1);
    assert_eq!((switch.link(0), subtype(&mut switch)), (1, Some(4)));
    assert_eq!(switch.hear(Some(0), &to), (vec![1], None));
    // Without the wire, VFs that are up reach each other.
    let Machine { hca, memory, .. } = &mut switch.machine;
    hca.set_link(memory, false);
    assert_eq!((switch.link(0), subtype(&mut switch)), (1, None));
    assert_eq!(switch.link(2), 0);
    let (away, other) = (frame(ADDRESS + 9, ADDRESS), frame(ADDRESS + 2, ADDRESS));
    assert_eq!(switch.hear(Some(1), &away), (vec![], None));
    assert_eq!(switch.hear(Some(1), &other), (vec![], None));
    set(&mut switch, 2);
    assert_eq!((switch.link(0), subtype(&mut switch)), (0, Some(1)));
    assert_eq!(switch.machine.hca.violations, 0);
}

#[test]
fn only_the_manager_manages() {
    let mut switch = Switch::new();
    let fdb = switch.fdb();
    let bad = Status::BadParam as u8;
    let commands = [
        about_port(ifc::QUERY_NIC_VPORT_CONTEXT, 16, 2, &[]),
        about_port(ifc::QUERY_VPORT_COUNTER, 0x20, 0, &[]),
        modify_context(2, vport::SELECT_MTU, &[]),
        input(
            ifc::MODIFY_NIC_VPORT_CONTEXT,
            0x200,
            &[(vport::SELECT, vport::SELECT_PERMANENT)],
        ),
        about_port(ifc::MODIFY_VPORT_STATE, 16, 1, &[(ifc::OP_MOD, 1)]),
        command(ifc::MODIFY_VPORT_STATE, 1, 16),
        command(ifc::QUERY_ESW_VPORT_CONTEXT, 0, 16),
        command(ifc::MODIFY_ESW_VPORT_CONTEXT, 0, 0x110),
        command(ifc::SET_L2_TABLE_ENTRY, 0, 0x40),
        command(ifc::DELETE_L2_TABLE_ENTRY, 0, 0x40),
        fdb.input(ifc::CREATE_FLOW_TABLE, 0x40, &[]),
    ];
    switch.drive(1);
    for command in &commands {
        assert_eq!(switch.refused(command), bad, "{command:?}");
    }
    let caps = |switch: &mut Switch| {
        let query = command(ifc::QUERY_HCA_CAP, 1, 16);
        switch.machine.send(&query, 0x1010).output
    };
    // `eswitch_manager`.
    let manager = ifc::field(ifc::CAPABILITY + 0x34, 7, 1);
    assert_eq!(manager.get(&caps(&mut switch)), 0);
    switch.drive(0);
    assert_eq!(manager.get(&caps(&mut switch)), 1);
    let nobody = about_port(ifc::QUERY_NIC_VPORT_CONTEXT, 16, 3, &[]);
    assert_eq!(switch.refused(&nobody), bad);
    // Its own port is as the wire.
    let down = about_port(ifc::MODIFY_VPORT_STATE, 16, 0, &[(ifc::OP_MOD, 1)]);
    assert_eq!(switch.refused(&down), bad);
}

#[test]
fn tables_of_ports_and_switches_differ() {
    let mut switch = Switch::new();
    let fdb = switch.table(Kind::Fdb, None);
    let acl = switch.table(Kind::IngressAcl, Some(1));
    let in_fdb = switch.group(&fdb, (0, 9), &[(misc::SOURCE_PORT, 0xffff)]);
    let in_acl = switch.group(&acl, (0, 9), &[]);
    let nic = switch.table(Kind::NicReceive, None);
    let in_nic = switch.group(&nic, (0, 9), &[]);
    let counter = switch.send(&command(ifc::ALLOC_FLOW_COUNTER, 0, 16));
    let counter = flow_counter::ID.get(&counter);
    let (bad, none) = (Status::BadParam as u8, Status::BadRes as u8);
    for (table, group, (action, list), status) in [
        (&fdb, in_fdb, (FORWARD, &[3][..]), none),
        (&fdb, in_fdb, (FORWARD, &[(2 << 24) | 1]), bad),
        (&fdb, in_fdb, (FORWARD | COUNT, &[counter]), bad),
        (&fdb, in_fdb, (ALLOW, &[]), bad),
        (&acl, in_acl, (FORWARD, &[1]), bad),
        (&nic, in_nic, (FORWARD, &[1]), bad),
        (&nic, in_nic, (ALLOW, &[]), bad),
        (&acl, in_acl, (DROP | COUNT, &[counter + 1]), none),
        (&acl, in_acl, (DROP | COUNT, &[]), bad),
        (&acl, in_acl, (DROP | COUNT, &[counter, counter]), bad),
        (&acl, in_acl, (ALLOW | DROP, &[]), bad),
        // To change tags in a table is not possible.
        (&acl, in_acl, (ALLOW | (1 << 8), &[]), bad),
    ] {
        let entry = entry(table, (group, 0), &[], (action, list));
        assert_eq!(switch.refused(&entry), status, "{action:#x} {list:?}");
    }
    // One destination, and one counter.
    let mut counted = entry(&fdb, (in_fdb, 0), &[], (FORWARD | COUNT, &[0, counter]));
    for field in [flow::DESTINATIONS, flow::COUNTERS] {
        field.set(&mut counted[flow::CONTEXT..], 1);
    }
    assert_eq!(switch.refused(&counted), bad);
    let by_port = [(misc::SOURCE_PORT, 1)];
    for (table, group) in [(&acl, in_acl), (&nic, in_nic)] {
        let by_port = entry(table, (group, 0), &by_port, (DROP, &[]));
        assert_eq!(switch.refused(&by_port), bad);
    }
    let higher = switch.table_of_level(1, Kind::IngressAcl, Some(1)).id;
    let chained = entry(&acl, (in_acl, 0), &[], (FORWARD, &[(1 << 24) | higher]));
    assert_eq!(switch.refused(&chained), bad);
    let mut by_queue = fdb.input(ifc::CREATE_FLOW_GROUP, 0x400, &[(flow::CRITERIA, 2)]);
    // `source_sqn`.
    ifc::field(0x41, 0, 24).set(&mut by_queue[flow::MASK..], 0xff_ffff);
    assert_eq!(switch.refused(&by_queue), bad);
    let of_port = Table {
        port: Some(1),
        ..fdb
    };
    assert_eq!(
        switch.refused(&of_port.input(ifc::CREATE_FLOW_TABLE, 0x40, &[])),
        bad
    );
    // All of it is missed when the driver goes.
    switch.machine.hca.functions[0].up = true;
    switch.machine.memory.violations.clear();
    switch.send(&command(ifc::TEARDOWN_HCA, 0, 16));
    let left = switch.machine.memory.violations.join("; ");
    for what in ["3 flow tables of the e-switch", "1 flow counters"] {
        assert!(left.contains(what), "{left}");
    }
}

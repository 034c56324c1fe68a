// SPDX-License-Identifier: GPL-2.0

//! Frames that a guest or another machine sends: what the emulated NIC reads from their
//! headers, their checksums, and how it cuts them into segments. The checksums are compared
//! with those that etherparse computes.

use etherparse::{
    checksum::Sum16BitWords,
    NetSlice,
    PacketBuilder,
    SlicedPacket,
    TransportSlice, //
};
use mlx5_emu::{
    ifc::ethernet::{
        tirc,
        CONTEXT, //
    },
    packet::{
        self,
        Packet,
        Protocol,
        ETHERNET, //
    },
    tir::Tir,
};
use mlx5_rust_logic::fuzz::{
    Input,
    Seed, //
};

/// The options of an input: the headers end where those of TCP or UDP do, whatever the input
/// says of it.
const WHOLE_HEADERS: u8 = 1 << 0;
/// Checksums are set before anything else.
const RIGHT: u8 = 1 << 1;

/// Most segments that a frame is cut into here, to keep an input short.
const SEGMENTS: usize = 1 << 12;
/// Where TCP has its flags, and those that segments have not all of: CWR, PSH and FIN.
const TCP_FLAGS: usize = 13;
const CUT_FLAGS: u8 = 0x89;

/// What etherparse makes of a frame whose lengths agree.
struct Oracle {
    /// Whether the checksum of the IPv4 header is right; `true` for IPv6.
    network_ok: bool,
    transport: Option<Transport>,
}

/// A transport header.
struct Transport {
    protocol: Protocol,
    /// Where it begins, and where its payload does.
    header: usize,
    payload: usize,
    /// Whether its checksum is right.
    ok: bool,
}

/// Returns whether a checksum is the one that was computed: of the two zeros, either will do.
fn agrees(stored: u16, computed: u16) -> bool {
    stored == computed || (stored == 0xffff && computed == 0)
}

impl Oracle {
    /// Returns `None` if etherparse refuses the frame, there is no IP in it, or it comes after
    /// what only etherparse knows.
    fn new(frame: &[u8]) -> Option<Self> {
        let mut at = ETHERNET - 2;
        while let Some([0x81, 0x00] | [0x88, 0xa8]) = frame.get(at..at + 2) {
            at += 4;
        }
        if !matches!(frame.get(at..at + 2)?, [0x08, 0x00] | [0x86, 0xdd]) {
            return None;
        }
        let sliced = SlicedPacket::from_ethernet(frame).ok()?;
        let net = sliced.net?;
        let network_ok = match &net {
            NetSlice::Ipv4(ip) => {
                let sum = Sum16BitWords::new().add_slice(ip.header().slice());
                sum.ones_complement() == 0
            }
            NetSlice::Ipv6(_) => true,
            _ => return None,
        };
        let offset = |part: &[u8]| part.as_ptr() as usize - frame.as_ptr() as usize;
        let transport = match &sliced.transport {
            Some(TransportSlice::Tcp(tcp)) => {
                let computed = match &net {
                    NetSlice::Ipv4(ip) => {
                        let header = ip.header();
                        tcp.calc_checksum_ipv4(header.source(), header.destination())
                    }
                    NetSlice::Ipv6(ip) => {
                        let header = ip.header();
                        tcp.calc_checksum_ipv6(header.source(), header.destination())
                    }
                    _ => return None,
                };
                Some(Transport {
                    protocol: Protocol::Tcp,
                    header: offset(tcp.slice()),
                    payload: offset(tcp.payload()),
                    ok: agrees(tcp.checksum(), computed.ok()?),
                })
            }
            // A length of 0 says that the IP header has the length. etherparse's checksum
            // has the 0.
            Some(TransportSlice::Udp(udp)) if udp.length() != 0 => {
                let header = udp.to_header();
                let computed = match &net {
                    NetSlice::Ipv4(ip) => {
                        let ip = ip.header();
                        header.calc_checksum_ipv4_raw(ip.source(), ip.destination(), udp.payload())
                    }
                    NetSlice::Ipv6(ip) => {
                        let ip = ip.header();
                        header.calc_checksum_ipv6_raw(ip.source(), ip.destination(), udp.payload())
                    }
                    _ => return None,
                };
                Some(Transport {
                    protocol: Protocol::Udp,
                    header: offset(udp.slice()),
                    payload: offset(udp.payload()),
                    ok: udp.checksum() == 0 || agrees(udp.checksum(), computed.ok()?),
                })
            }
            _ => None,
        };
        Some(Self {
            network_ok,
            transport,
        })
    }
}

fn be16(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]))
}

/// Checks what the NIC says of a frame.
fn check_parsed(frame: &[u8], oracle: Option<&Oracle>) -> Option<Packet> {
    let packet = Packet::parse(frame);
    assert_eq!(packet.is_some(), frame.len() >= ETHERNET);
    let packet = packet?;
    packet.match_set(frame);
    let (network_ok, transport_ok) = (packet.network_ok(frame), packet.transport_ok(frame));
    if let Some(oracle) = oracle {
        assert_eq!(network_ok, oracle.network_ok);
        if let Some(transport) = &oracle.transport {
            let protocol = packet.transport.map(|found| found.protocol);
            assert_eq!(protocol, Some(transport.protocol));
            assert_eq!(transport_ok, transport.ok);
        }
    }
    Some(packet)
}

/// Checks that checksums are right once they were set, and that nothing else was changed.
fn check_checksums(frame: &[u8]) {
    let Some(packet) = Packet::parse(frame) else {
        return;
    };
    let changes = |network: bool, transport: bool| {
        let mut changed = frame.to_vec();
        packet::set_checksums(&mut changed, network, transport);
        assert_eq!(changed.len(), frame.len());
        let differs = changed.iter().zip(frame).map(|(new, old)| new != old);
        let at: Vec<usize> = differs
            .enumerate()
            .filter(|(_, differs)| *differs)
            .map(|(at, _)| at)
            .collect();
        if let (Some(first), Some(last)) = (at.first(), at.last()) {
            assert!(first.abs_diff(*last) < 2, "{at:?}");
        }
        changed
    };
    changes(false, true);
    changes(true, false);
    assert_eq!(changes(false, false), frame);
    let mut right = frame.to_vec();
    packet::set_checksums(&mut right, true, true);
    let found = Packet::parse(&right);
    assert_eq!(found.map(|found| found.ethertype), Some(packet.ethertype));
    assert_eq!(packet.network_ok(&right), packet.ip.is_some());
    assert_eq!(packet.transport_ok(&right), packet.transport.is_some());
    if let Some(oracle) = Oracle::new(&right) {
        assert!(oracle.network_ok);
        assert!(oracle.transport.is_none_or(|transport| transport.ok));
    }
}

/// Checks that segments have all data of a frame in order, and each a length of its own.
fn check_segments(frame: &[u8], headers: usize, mss: usize, oracle: Option<&Oracle>) {
    if frame.len().saturating_sub(headers) / mss.max(1) > SEGMENTS {
        return;
    }
    let Some(segments) = packet::segment(frame, headers, mss) else {
        // It must be cut if its headers are right, and no segment is too long for IP.
        let transport = oracle.and_then(|oracle| oracle.transport.as_ref());
        let right = transport.is_some_and(|transport| transport.payload == headers);
        assert!(!right || headers >= frame.len() || mss == 0 || headers + mss > 0xffff);
        return;
    };
    let segments: Vec<Vec<u8>> = segments.collect();
    let packet = Packet::parse(frame).expect("it was cut");
    let data: Vec<u8> = segments
        .iter()
        .flat_map(|segment| &segment[headers..])
        .copied()
        .collect();
    assert_eq!(data, frame[headers..]);
    let (last, whole) = segments.split_last().expect("there is data");
    assert!(whole.iter().all(|segment| segment.len() == headers + mss));
    assert!((headers + 1..=headers + mss).contains(&last.len()));
    for (number, mut segment) in segments.iter().cloned().enumerate() {
        packet::set_checksums(&mut segment, true, true);
        let own = Packet::parse(&segment).expect("it has an Ethernet header");
        assert_eq!((own.vlan, own.ethertype), (packet.vlan, packet.ethertype));
        assert!(own.network_ok(&segment) && own.transport_ok(&segment));
        // What etherparse finds in it is all of it.
        let Some(Oracle {
            network_ok: true,
            transport: Some(own @ Transport { ok: true, .. }),
        }) = Oracle::new(&segment)
        else {
            // etherparse refuses some headers, and with them each segment.
            assert!(oracle.is_none_or(|oracle| oracle.transport.is_none()));
            continue;
        };
        assert_eq!(own.payload, headers);
        if own.protocol == Protocol::Tcp {
            let transport = own.header;
            let sequence = |bytes: &[u8]| {
                let word = bytes[transport + 4..].first_chunk().expect("the header");
                u32::from_be_bytes(*word)
            };
            let begin = (number * mss) as u32;
            assert_eq!(sequence(&segment), sequence(frame).wrapping_add(begin));
            let flags = [&segment[..], frame].map(|bytes| bytes[transport + TCP_FLAGS]);
            assert_eq!(flags[0] & !CUT_FLAGS, flags[1] & !CUT_FLAGS);
            let kept = |first: u8, last: u8| {
                let first = if number == 0 { first } else { 0 };
                let last = if number + 1 == segments.len() {
                    last
                } else {
                    0
                };
                first | last
            };
            assert_eq!(flags[0] & CUT_FLAGS, flags[1] & kept(0x80, 0x09));
        }
    }
}

/// Checks that what is stripped is all that was there.
fn check_tag(frame: &[u8], packet: &Packet) {
    if let Some((stripped, tci)) = packet::strip_vlan(frame, packet) {
        let mut again = stripped[..ETHERNET - 2].to_vec();
        // The driver puts it back as a customer's tag.
        again.extend_from_slice(&0x8100u16.to_be_bytes());
        again.extend_from_slice(&tci.to_be_bytes());
        again.extend_from_slice(&stripped[ETHERNET - 2..]);
        assert_eq!(again, frame);
    }
}

/// Hashes a packet in each way.
fn hash(packet: &Packet, selected: u16) {
    for function in 1..=2 {
        for symmetric in 0..=1 {
            let mut input = [0x6d; CONTEXT + tirc::LEN];
            let context = &mut input[CONTEXT..];
            for (field, value) in [
                (tirc::DISPATCH, 1),
                (tirc::HASH, function),
                (tirc::SYMMETRIC, symmetric),
                (tirc::SELECTED, u64::from(selected % 32)),
            ] {
                field.set(context, value);
            }
            Tir::parse(&input).expect("a TIR").hash(packet);
        }
    }
}

/// Runs one input: options, the size of segments, where data begin, how many words of data
/// follow the input, and a frame.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let options = input.byte();
    let (mss, headers) = (usize::from(input.u16()), usize::from(input.u16()));
    let more = usize::from(input.u16()) * 4;
    let mut frame = input.rest().to_vec();
    frame.extend((0..more).map(|at| (at ^ (at >> 8)) as u8));
    if options & RIGHT != 0 {
        packet::set_checksums(&mut frame, true, true);
    }
    let oracle = Oracle::new(&frame);
    let Some(packet) = check_parsed(&frame, oracle.as_ref()) else {
        return;
    };
    check_checksums(&frame);
    check_tag(&frame, &packet);
    hash(&packet, mss as u16);
    let headers = match oracle.as_ref().and_then(|oracle| oracle.transport.as_ref()) {
        Some(transport) if options & WHOLE_HEADERS != 0 => transport.payload,
        _ => headers,
    };
    check_segments(&frame, headers, mss, oracle.as_ref());
}

/// An input with a frame.
fn input(options: u8, mss: u16, more: u16, frame: &[u8]) -> Vec<u8> {
    let mut bytes = vec![options];
    for number in [mss, 0, more] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(frame);
    bytes
}

/// Frames with all that the NIC reads.
pub fn frames() -> Vec<Seed> {
    let ethernet = || PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let (low, high) = ([10, 0, 0, 1], [10, 0, 0, 2]);
    let tag = |number: u16| number.try_into().expect("12 bits");
    let mut tcp4 = Vec::new();
    let builder = ethernet()
        .ipv4(low, high, 64)
        .tcp(1000, 2000, 0xffff_ffff, 8192);
    let written = builder
        .ack(5)
        .fin()
        .psh()
        .cwr()
        .write(&mut tcp4, b"some data");
    written.expect("a frame");
    let mut tcp6 = Vec::new();
    let builder = ethernet()
        .ipv6([1; 16], [2; 16], 64)
        .tcp(1000, 2000, 5, 8192);
    builder.write(&mut tcp6, b"some data").expect("a frame");
    let mut udp4 = Vec::new();
    let builder = ethernet().single_vlan(tag(5)).ipv4(low, high, 64);
    let written = builder.udp(1000, 2000).write(&mut udp4, b"some data");
    written.expect("a frame");
    let mut udp6 = Vec::new();
    let builder = ethernet().double_vlan(tag(5), tag(6));
    let builder = builder.ipv6([1; 16], [2; 16], 64);
    let written = builder.udp(1000, 2000).write(&mut udp6, b"some data");
    written.expect("a frame");
    let mut ping = Vec::new();
    let builder = ethernet().ipv4(low, high, 64).icmpv4_echo_request(1, 2);
    builder.write(&mut ping, b"some data").expect("a frame");
    // IP has more than UDP.
    let mut padded = udp4.clone();
    let at = ETHERNET + 4 + 2;
    let total = (be16(&padded, at) + 6) as u16;
    padded[at..at + 2].copy_from_slice(&total.to_be_bytes());
    padded.extend_from_slice(b"padded");
    let mut fragment = tcp4.clone();
    fragment[ETHERNET + 6] = 0x20;
    vec![
        ("TCP over IPv4", tcp4),
        ("TCP over IPv6", tcp6),
        ("UDP over IPv4", udp4),
        ("UDP over IPv6", udp6),
        ("ICMP", ping),
        ("UDP with padding", padded),
        ("a fragment", fragment),
    ]
}

/// Takes a frame from the input of another target: one of [`frames()`], and some bytes of it.
pub fn take(input: &mut Input<'_>) -> Vec<u8> {
    let mut frames = frames();
    let number = usize::from(input.byte()) % frames.len();
    let (_, mut frame) = frames.swap_remove(number);
    for _ in 0..input.byte() % 8 {
        let at = usize::from(input.byte()) % frame.len();
        frame[at] = input.byte();
    }
    frame
}

/// Returns inputs to begin with.
pub fn seeds() -> Vec<Seed> {
    let mut seeds: Vec<Seed> = frames()
        .into_iter()
        .map(|(name, frame)| (name, input(WHOLE_HEADERS | RIGHT, 4, 0, &frame)))
        .collect();
    let tcp4 = &frames()[0].1;
    let mut other = frames().swap_remove(2).1;
    other[ETHERNET - 2..ETHERNET].copy_from_slice(&[0x91, 0]);
    seeds.extend([
        ("a long frame", input(WHOLE_HEADERS, 1460, 0x4000, tcp4)),
        (
            "one long segment",
            input(WHOLE_HEADERS, 0xffff, 0x4000, tcp4),
        ),
        ("no header", input(0, 0, 0, &tcp4[..ETHERNET - 1])),
        ("another tag", input(RIGHT, 0, 0, &other)),
    ]);
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame that etherparse refuses is compared with nothing.
    #[test]
    fn etherparse_takes_the_frames() {
        for (name, frame) in frames() {
            let oracle = Oracle::new(&frame).expect(name);
            let has_transport = name.contains("TCP") || name.contains("UDP");
            assert_eq!(oracle.transport.is_some(), has_transport, "{name}");
        }
    }
}

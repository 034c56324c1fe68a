// SPDX-License-Identifier: GPL-2.0

//! Frames, as far as a NIC looks into them: headers, checksums, segments.

use crate::ifc::{
    eswitch::misc,
    ethernet::headers, //
};
use etherparse::{
    LaxLinkExtSlice,
    LaxNetSlice,
    LaxSlicedPacket,
    LinkSlice,
    TransportSlice, //
};

/// Bytes of an Ethernet header.
pub const ETHERNET: usize = 14;
/// Bytes of a VLAN tag.
const TAG: usize = 4;
/// TPIDs of the tags that the NIC knows: of a customer (802.1Q), and of a service (802.1ad).
const CUSTOMER_TAG: u16 = 0x8100;
const SERVICE_TAG: u16 = 0x88a8;
/// Longest packet of IP, and longest payload of IPv6.
const MAX_LENGTH: usize = 0xffff;
/// Flags of TCP in the byte that has them.
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// What flow tables look at: `outer_headers` and `misc_parameters` of a
/// fte_match_param.
pub type Key = [u8; headers::LEN + misc::LEN];

/// The outermost VLAN tag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vlan {
    /// Priority, drop eligibility and number.
    pub tci: u16,
    /// Whether it is a service tag.
    pub service: bool,
}

/// The header of IPv4, or of IPv6 with its extensions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ip {
    /// 4 or 6.
    pub version: u8,
    /// What it carries.
    pub protocol: u8,
    /// Whether what it carries is only a part of that.
    pub fragment: bool,
    /// Where it is in the frame.
    at: usize,
    /// Where what it carries begins.
    payload: usize,
    traffic_class: u8,
    ttl: u8,
    /// An address of IPv4 is in the last 4 bytes.
    source: [u8; 16],
    destination: [u8; 16],
}

/// The protocol of a transport header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// The header of TCP or UDP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transport {
    /// Which.
    pub protocol: Protocol,
    /// Ports.
    pub source: u16,
    /// Ports.
    pub destination: u16,
    /// Flags of TCP.
    flags: u16,
    /// Bytes of it.
    len: usize,
    /// Bytes of it and its data. What IP has beyond those of UDP is padding.
    total: usize,
}

/// What the headers of a frame say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet {
    /// The outermost tag.
    pub vlan: Option<Vlan>,
    /// What follows the tags.
    pub ethertype: u16,
    /// IP.
    pub ip: Option<Ip>,
    /// TCP or UDP, if it is there as a whole.
    pub transport: Option<Transport>,
}

/// Where `part`, a piece of `frame`, begins in it.
fn offset(frame: &[u8], part: &[u8]) -> usize {
    let offset = (part.as_ptr() as usize).saturating_sub(frame.as_ptr() as usize);
    offset.min(frame.len())
}

fn ipv4(bytes: [u8; 4]) -> [u8; 16] {
    let mut address = [0; 16];
    address[12..].copy_from_slice(&bytes);
    address
}

impl Packet {
    /// What a frame's headers say; `None` if it has no Ethernet header.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let sliced = LaxSlicedPacket::from_ethernet(frame).ok()?;
        let Some(LinkSlice::Ethernet2(ethernet)) = &sliced.link else {
            return None;
        };
        let mut outer = ethernet.ether_type();
        let mut vlan = None;
        // What follows a tag that the NIC does not know, it does not see.
        let mut seen = true;
        for tag in &sliced.link_exts {
            let (LaxLinkExtSlice::Vlan(tag), CUSTOMER_TAG | SERVICE_TAG) = (tag, outer.0) else {
                seen = false;
                break;
            };
            let slice = tag.slice();
            vlan.get_or_insert(Vlan {
                tci: u16::from_be_bytes([slice[0], slice[1]]),
                service: outer.0 == SERVICE_TAG,
            });
            outer = tag.ether_type();
        }
        let ip = match sliced.net.as_ref().filter(|_| seen) {
            Some(LaxNetSlice::Ipv4(ip)) => {
                let header = ip.header();
                let payload = ip.payload();
                Some(Ip {
                    version: 4,
                    protocol: payload.ip_number.0,
                    fragment: payload.fragmented,
                    at: offset(frame, header.slice()),
                    payload: offset(frame, payload.payload),
                    traffic_class: header.slice()[1],
                    ttl: header.ttl(),
                    source: ipv4(header.source()),
                    destination: ipv4(header.destination()),
                })
            }
            Some(LaxNetSlice::Ipv6(ip)) => {
                let header = ip.header();
                let payload = ip.payload();
                Some(Ip {
                    version: 6,
                    protocol: payload.ip_number.0,
                    fragment: payload.fragmented,
                    at: offset(frame, header.slice()),
                    payload: offset(frame, payload.payload),
                    traffic_class: header.traffic_class(),
                    ttl: header.hop_limit(),
                    source: header.source(),
                    destination: header.destination(),
                })
            }
            _ => None,
        };
        let transport = match &sliced.transport {
            Some(TransportSlice::Tcp(tcp)) => Some(Transport {
                protocol: Protocol::Tcp,
                source: tcp.source_port(),
                destination: tcp.destination_port(),
                flags: u16::from_be_bytes([tcp.slice()[12], tcp.slice()[13]]) & 0x1ff,
                len: tcp.header_slice().len(),
                total: tcp.slice().len(),
            }),
            Some(TransportSlice::Udp(udp)) => Some(Transport {
                protocol: Protocol::Udp,
                source: udp.source_port(),
                destination: udp.destination_port(),
                flags: 0,
                len: udp.header_len(),
                total: udp.slice().len(),
            }),
            _ => None,
        };
        Some(Self {
            vlan,
            ethertype: outer.0,
            ip,
            transport: transport.filter(|_| ip.is_some_and(|ip| !ip.fragment)),
        })
    }

    /// The headers as `outer_headers` of a fte_match_param has them.
    pub fn match_set(&self, frame: &[u8]) -> [u8; headers::LEN] {
        let mut set = [0; headers::LEN];
        // Both addresses are whole: the frame has an Ethernet header.
        set[0x8..0xe].copy_from_slice(&frame[..6]);
        set[..6].copy_from_slice(&frame[6..12]);
        headers::ETHERTYPE.set(&mut set, self.ethertype.into());
        if let Some(vlan) = self.vlan {
            headers::FIRST_TAG.set(&mut set, vlan.tci.into());
            match vlan.service {
                true => headers::SVLAN.set(&mut set, 1),
                false => headers::CVLAN.set(&mut set, 1),
            }
        }
        if let Some(ip) = &self.ip {
            headers::IP_VERSION.set(&mut set, ip.version.into());
            headers::IP_PROTOCOL.set(&mut set, ip.protocol.into());
            headers::TRAFFIC_CLASS.set(&mut set, ip.traffic_class.into());
            headers::TTL.set(&mut set, ip.ttl.into());
            headers::FRAGMENT.set(&mut set, ip.fragment.into());
            set[headers::SOURCE].copy_from_slice(&ip.source);
            set[headers::DESTINATION].copy_from_slice(&ip.destination);
        }
        if let Some(transport) = &self.transport {
            let (source, destination) = match transport.protocol {
                Protocol::Tcp => (headers::TCP_SOURCE, headers::TCP_DESTINATION),
                Protocol::Udp => (headers::UDP_SOURCE, headers::UDP_DESTINATION),
            };
            source.set(&mut set, transport.source.into());
            destination.set(&mut set, transport.destination.into());
            headers::TCP_FLAGS.set(&mut set, transport.flags.into());
        }
        set
    }

    /// The headers and the port that a frame has come through to the e-switch.
    pub fn key(&self, frame: &[u8], port: u16) -> Key {
        let mut key = [0; headers::LEN + misc::LEN];
        key[..headers::LEN].copy_from_slice(&self.match_set(frame));
        misc::SOURCE_PORT.set(&mut key, port.into());
        key
    }

    /// Whether there is data behind the header of TCP or UDP.
    pub fn has_data(&self) -> bool {
        self.transport.is_some_and(|t| t.len < t.total)
    }

    /// Whether TCP acknowledges something.
    pub fn is_ack(&self) -> bool {
        self.transport.is_some_and(|t| t.flags & 0x10 != 0)
    }

    /// Whether the checksum of the IPv4 header is right; there is none in IPv6.
    pub fn network_ok(&self, frame: &[u8]) -> bool {
        match &self.ip {
            Some(ip) if ip.version == 4 => sum(&frame[ip.header(frame)]) == 0xffff,
            Some(_) => true,
            None => false,
        }
    }

    /// Whether the checksum of TCP or UDP is right.
    pub fn transport_ok(&self, frame: &[u8]) -> bool {
        let (Some(ip), Some(transport)) = (&self.ip, &self.transport) else {
            return false;
        };
        let data = &frame[ip.payload..][..transport.total];
        let absent = transport.protocol == Protocol::Udp && data.get(6..8) == Some(&[0, 0]);
        absent || fold(ip.pseudo_header(data.len()) + u64::from(sum(data))) == 0xffff
    }
}

impl Ip {
    /// Where the header is, without what follows it.
    fn header(&self, frame: &[u8]) -> std::ops::Range<usize> {
        let len = match self.version {
            4 => usize::from(frame[self.at] & 0xf) * 4,
            _ => 40,
        };
        self.at..(self.at + len).min(frame.len())
    }

    /// The sum over the pseudo header of a transport protocol.
    fn pseudo_header(&self, len: usize) -> u64 {
        u64::from(sum(&self.source))
            + u64::from(sum(&self.destination))
            + u64::from(self.protocol)
            + len as u64
    }

    /// The bytes of its source and its destination.
    pub fn addresses(&self) -> (&[u8], &[u8]) {
        let from = if self.version == 4 { 12 } else { 0 };
        (&self.source[from..], &self.destination[from..])
    }
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The ones' complement sum of big endian words; the last byte may be half of
/// one.
pub fn sum(data: &[u8]) -> u16 {
    let words = data.chunks(2).map(|word| match word {
        [high, low] => u16::from_be_bytes([*high, *low]),
        [high] => u16::from_be_bytes([*high, 0]),
        _ => 0,
    });
    fold(words.map(u64::from).sum())
}

/// Writes checksums to a frame: of IPv4 with `network`, of TCP or UDP with
/// `transport`. What has none stays as it is.
pub fn set_checksums(frame: &mut [u8], network: bool, transport: bool) {
    let Some(packet) = Packet::parse(frame) else {
        return;
    };
    let Some(ip) = packet.ip else {
        return;
    };
    if network && ip.version == 4 {
        frame[ip.at + 10..ip.at + 12].fill(0);
        let checksum = !sum(&frame[ip.header(frame)]);
        frame[ip.at + 10..ip.at + 12].copy_from_slice(&checksum.to_be_bytes());
    }
    if let Some(header) = packet.transport.filter(|_| transport) {
        let begin = ip.payload;
        let end = begin + header.total;
        let at = begin
            + match header.protocol {
                Protocol::Tcp => 16,
                Protocol::Udp => 6,
            };
        frame[at..at + 2].fill(0);
        let sum = ip.pseudo_header(end - begin) + u64::from(sum(&frame[begin..end]));
        let checksum = match !fold(sum) {
            // In UDP, 0 says that there is none.
            0 if header.protocol == Protocol::Udp => 0xffff,
            checksum => checksum,
        };
        frame[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Cuts what follows the first `headers` bytes of a frame into pieces of `mss`
/// bytes, each with these headers, as each needs them but for their checksums.
/// `None` if that are not the headers of TCP or UDP, and no more, or IP cannot say how long
/// a piece is. A segment is made when it is taken: there may be as many as bytes.
pub fn segment(
    frame: &[u8],
    headers: usize,
    mss: usize,
) -> Option<impl Iterator<Item = Vec<u8>> + '_> {
    segments_from(frame, headers, mss, 0)
}

/// The same, without the first ones.
pub fn segments_from(
    frame: &[u8],
    headers: usize,
    mss: usize,
    first: usize,
) -> Option<impl Iterator<Item = Vec<u8>> + '_> {
    let packet = Packet::parse(frame)?;
    let (ip, transport) = (packet.ip?, packet.transport?);
    let at = ip.payload;
    if at + transport.len != headers || headers >= frame.len() || mss == 0 {
        return None;
    }
    if (headers + mss).min(frame.len()) - ip.at > MAX_LENGTH {
        return None;
    }
    let pieces = frame[headers..].chunks(mss);
    let last = pieces.len() - 1;
    let be16 = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let make = move |(number, piece): (usize, &[u8])| {
        let mut segment = frame[..headers].to_vec();
        segment.extend_from_slice(piece);
        let len = |from: usize| ((segment.len() - from) as u16).to_be_bytes();
        let (total, payload) = (len(ip.at), len(ip.header(frame).end));
        let transport_len = len(at);
        if ip.version == 4 {
            segment[ip.at + 2..ip.at + 4].copy_from_slice(&total);
            let id = be16(ip.at + 4).wrapping_add(number as u16);
            segment[ip.at + 4..ip.at + 6].copy_from_slice(&id.to_be_bytes());
        } else {
            segment[ip.at + 4..ip.at + 6].copy_from_slice(&payload);
        }
        if transport.protocol == Protocol::Udp {
            segment[at + 4..at + 6].copy_from_slice(&transport_len);
            return segment;
        }
        let sequence =
            u32::from_be_bytes([frame[at + 4], frame[at + 5], frame[at + 6], frame[at + 7]]);
        let sequence = sequence.wrapping_add((number * mss) as u32);
        segment[at + 4..at + 8].copy_from_slice(&sequence.to_be_bytes());
        if number != last {
            segment[at + 13] &= !(FIN | PSH);
        }
        if number != 0 {
            segment[at + 13] &= !CWR;
        }
        segment
    };
    Some(pieces.enumerate().skip(first).map(make))
}

/// A frame without its outermost tag, and what was in that.
pub fn strip_vlan(frame: &[u8], packet: &Packet) -> Option<(Vec<u8>, u16)> {
    let vlan = packet.vlan.filter(|vlan| !vlan.service)?;
    let mut stripped = frame[..ETHERNET - 2].to_vec();
    stripped.extend_from_slice(&frame[ETHERNET - 2 + TAG..]);
    Some((stripped, vlan.tci))
}

/// A frame with a tag in front of all that it has.
pub fn insert_vlan(frame: &[u8], tci: u16) -> Vec<u8> {
    let (addresses, rest) = frame.split_at(frame.len().min(ETHERNET - 2));
    let [high, low] = tci.to_be_bytes();
    let [tpid_high, tpid_low] = CUSTOMER_TAG.to_be_bytes();
    [addresses, &[tpid_high, tpid_low, high, low], rest].concat()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use etherparse::PacketBuilder;

    pub const SOURCE: [u8; 6] = [2, 0, 0, 0, 0, 1];
    pub const DESTINATION: [u8; 6] = [2, 0, 0, 0, 0, 2];

    /// A frame of TCP over IPv4.
    pub fn tcp4(data: &[u8]) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2(SOURCE, DESTINATION)
            .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .tcp(1000, 2000, 0xffff_ff00, 8192)
            .ack(5)
            .fin()
            .psh();
        let mut frame = Vec::new();
        builder.write(&mut frame, data).unwrap();
        frame
    }

    /// A frame of UDP over IPv6, in VLAN 5.
    pub fn udp6(data: &[u8]) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2(SOURCE, DESTINATION)
            .single_vlan(5.try_into().unwrap())
            .ipv6([1; 16], [2; 16], 64)
            .udp(1000, 2000);
        let mut frame = Vec::new();
        builder.write(&mut frame, data).unwrap();
        frame
    }

    fn ok(frame: &[u8]) -> bool {
        let packet = Packet::parse(frame).unwrap();
        packet.network_ok(frame) && packet.transport_ok(frame)
    }

    #[test]
    fn headers_are_found() {
        let frame = tcp4(b"data");
        let packet = Packet::parse(&frame).unwrap();
        assert!(packet.has_data() && packet.is_ack());
        assert_eq!(packet.vlan, None);
        assert!(ok(&frame));
        let set = packet.match_set(&frame);
        assert_eq!(headers::SMAC.get(&set), 0x0200_0000_0001);
        assert_eq!(headers::DMAC.get(&set), 0x0200_0000_0002);
        assert_eq!(headers::ETHERTYPE.get(&set), 0x800);
        assert_eq!(headers::IP_VERSION.get(&set), 4);
        assert_eq!(headers::IP_PROTOCOL.get(&set), 6);
        assert_eq!(headers::TCP_SOURCE.get(&set), 1000);
        assert_eq!(headers::TCP_DESTINATION.get(&set), 2000);
        assert_eq!(headers::TCP_FLAGS.get(&set), 0x19);
        assert_eq!(set[headers::SOURCE][12..], [10, 0, 0, 1]);

        let frame = udp6(b"");
        let packet = Packet::parse(&frame).unwrap();
        assert!(!packet.has_data() && !packet.is_ack());
        let set = packet.match_set(&frame);
        assert_eq!(headers::FIRST_TAG.get(&set), 5);
        assert_eq!(headers::CVLAN.get(&set), 1);
        assert_eq!(headers::ETHERTYPE.get(&set), 0x86dd);
        assert_eq!(headers::UDP_DESTINATION.get(&set), 2000);
        assert_eq!(set[headers::DESTINATION], [2; 16]);
    }

    #[test]
    fn any_bytes_can_come() {
        for frame in [tcp4(b"data"), udp6(b"data")] {
            for len in 0..frame.len() {
                for flip in 0..len {
                    let mut bad = frame[..len].to_vec();
                    bad[flip] ^= 0xff;
                    set_checksums(&mut bad, true, true);
                    let Some(packet) = Packet::parse(&bad) else {
                        continue;
                    };
                    packet.match_set(&bad);
                    packet.network_ok(&bad);
                    packet.transport_ok(&bad);
                    strip_vlan(&bad, &packet);
                    segment(&bad, len / 2, 3);
                }
            }
        }
    }

    #[test]
    fn checksums_are_set_and_checked() {
        for mut frame in [tcp4(b"odd"), udp6(b"odd")] {
            let right = frame.clone();
            let last = frame.len() - 1;
            frame[last] ^= 1;
            assert!(!ok(&frame));
            set_checksums(&mut frame, true, true);
            assert!(ok(&frame));
            frame[last] ^= 1;
            set_checksums(&mut frame, true, true);
            assert_eq!(frame, right);
        }
        // Padding does not count.
        let mut padded = tcp4(b"");
        padded.extend_from_slice(&[1, 2, 3, 4, 5, 6]);
        assert!(ok(&padded));
    }

    #[test]
    fn segments_are_packets_of_their_own() {
        let data: Vec<u8> = (0..250).collect();
        let frame = tcp4(&data);
        let mut segments: Vec<_> = segment(&frame, 54, 100).unwrap().collect();
        let lengths: Vec<usize> = segments.iter().map(Vec::len).collect();
        assert_eq!(lengths, [154, 154, 104]);
        for (number, segment) in segments.iter_mut().enumerate() {
            set_checksums(segment, true, true);
            assert!(ok(segment));
            let begin = number * 100;
            assert_eq!(segment[54..], data[begin..(begin + 100).min(250)]);
            let sequence = u32::from_be_bytes(segment[38..42].try_into().unwrap());
            assert_eq!(sequence, 0xffff_ff00u32.wrapping_add(begin as u32));
            let last = number == 2;
            assert_eq!(segment[47] & (FIN | PSH) != 0, last);
        }
        let frame = udp6(&data);
        for mut segment in segment(&frame, 66, 200).unwrap() {
            set_checksums(&mut segment, true, true);
            assert!(ok(&segment));
            let len = usize::from(u16::from_be_bytes([segment[62], segment[63]]));
            assert_eq!(len, segment.len() - 58);
        }
        for (headers, mss) in [(53, 100), (55, 100), (0, 100), (54, 0), (1000, 100)] {
            assert!(segment(&tcp4(&data), headers, mss).is_none());
        }
        assert!(segment(&tcp4(b""), 54, 100).is_none());
    }

    /// Linux pads no packet so, and has a checksum of what UDP says it has.
    #[test]
    fn what_follows_udp_in_ip_does_not_count() {
        let mut frame = udp6(b"data");
        let at = ETHERNET + TAG + 4;
        frame[at + 1] += 6;
        frame.extend_from_slice(b"padded");
        assert!(ok(&frame));
        // Its checksum.
        frame[at + 42] ^= 1;
        assert!(!ok(&frame));
        set_checksums(&mut frame, true, true);
        frame.truncate(frame.len() - 6);
        frame[at + 1] -= 6;
        assert!(ok(&frame));
    }

    #[test]
    fn a_segment_is_no_longer_than_ip_can_say() {
        let mut frame = tcp4(b"");
        frame.resize(0x1_0100, 0);
        let lengths = |mss| segment(&frame, 54, mss).map(|all| all.map(|one| one.len()).max());
        assert_eq!(lengths(0xffff - 40), Some(Some(0xffff + ETHERNET)));
        assert_eq!(lengths(0xffff - 39), None);
    }

    /// A driver puts a tag back as a customer's.
    #[test]
    fn a_tag_of_another_kind_is_none() {
        let mut frame = udp6(b"data");
        frame[12..14].copy_from_slice(&[0x91, 0]);
        let packet = Packet::parse(&frame).unwrap();
        assert_eq!((packet.vlan, packet.ethertype), (None, 0x9100));
        assert_eq!((packet.ip, packet.transport), (None, None));
        assert_eq!(strip_vlan(&frame, &packet), None);
    }

    #[test]
    fn a_tag_is_stripped() {
        let frame = udp6(b"data");
        let packet = Packet::parse(&frame).unwrap();
        let (stripped, tci) = strip_vlan(&frame, &packet).unwrap();
        assert_eq!((stripped.len(), tci), (frame.len() - 4, 5));
        let packet = Packet::parse(&stripped).unwrap();
        assert_eq!((packet.vlan, packet.ethertype), (None, 0x86dd));
        assert!(ok(&stripped));
        assert_eq!(strip_vlan(&stripped, &packet), None);
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Transport interface receive: how a packet finds its receive queue.

use crate::{
    encoded::{
        list_len,
        BYTE, //
    },
    ifc::{
        ethernet::{
            tirc,
            CONTEXT, //
        },
        Status, //
    },
    packet::{
        Packet,
        Protocol, //
    },
    resources::Saved, //
};
use serde::{
    Deserialize,
    Serialize, //
};

/// `MLX5_RX_HASH_FN_NONE`
const HASH_NONE: u64 = 0;
/// `MLX5_RX_HASH_FN_INVERTED_XOR8`
const HASH_XOR8: u64 = 1;
/// `MLX5_RX_HASH_FN_TOEPLITZ`
const HASH_TOEPLITZ: u64 = 2;
/// `MLX5_HASH_FIELD_SEL_*`
const SOURCE_IP: u64 = 1 << 0;
const DESTINATION_IP: u64 = 1 << 1;
const SOURCE_PORT: u64 = 1 << 2;
const DESTINATION_PORT: u64 = 1 << 3;
/// Of IPsec. A driver can select it, and it is not hashed: such packets have a hash of their
/// addresses.
const SPI: u64 = 1 << 4;
const SELECTABLE: u64 = SOURCE_IP | DESTINATION_IP | SOURCE_PORT | DESTINATION_PORT | SPI;

/// Where packets go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dispatch {
    /// `MLX5_TIRC_DISP_TYPE_DIRECT`: to a receive queue.
    Direct(u32),
    /// `MLX5_TIRC_DISP_TYPE_INDIRECT`: to one of a table.
    Indirect(u32),
}

/// The hash of a packet, and what a CQE says of it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Hash {
    /// `rss_hash_result`.
    pub value: u32,
    /// `rss_hash_type`.
    pub kind: u8,
}

/// A TIR.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Tir {
    context: Vec<u8>,
}

fn check(context: &[u8]) -> Result<(), Status> {
    let hashed = tirc::HASH.get(context);
    let dispatch = tirc::DISPATCH.get(context);
    if dispatch > 1
        || hashed > HASH_TOEPLITZ
        || (dispatch == 0) != (hashed == HASH_NONE)
        || tirc::SELECTED.get(context) & !SELECTABLE != 0
    {
        return Err(Status::BadParam);
    }
    Ok(())
}

impl Saved for Tir {
    const MAX_LEN: usize = list_len(tirc::LEN, BYTE);

    fn is_sound(&self) -> bool {
        self.context.len() == tirc::LEN && check(&self.context).is_ok()
    }
}

impl Tir {
    /// CREATE_TIR.
    pub fn parse(input: &[u8]) -> Result<Self, Status> {
        let context = input.get(CONTEXT..CONTEXT + tirc::LEN);
        let context = context.ok_or(Status::BadInputLen)?.to_vec();
        check(&context)?;
        Ok(Self { context })
    }

    /// MODIFY_TIR of what `bitmask` says.
    pub fn modify(&mut self, bitmask: u64, input: &[u8]) -> Result<(), Status> {
        let new = input.get(CONTEXT..CONTEXT + tirc::LEN);
        let new = new.ok_or(Status::BadInputLen)?;
        if bitmask & !(tirc::MODIFY_HASH | tirc::MODIFY_SELF_LB) != 0 {
            return Err(Status::BadParam);
        }
        let mut context = self.context.clone();
        if bitmask & tirc::MODIFY_SELF_LB != 0 {
            let block = tirc::SELF_LB_BLOCK.get(new);
            tirc::SELF_LB_BLOCK.set(&mut context, block);
        }
        if bitmask & tirc::MODIFY_HASH != 0 {
            for field in [tirc::HASH, tirc::SYMMETRIC] {
                let value = field.get(new);
                field.set(&mut context, value);
            }
            for range in [tirc::KEY, tirc::SELECTOR] {
                context[range.clone()].copy_from_slice(&new[range]);
            }
        }
        check(&context)?;
        self.context = context;
        Ok(())
    }

    /// Its transport domain.
    pub fn transport_domain(&self) -> u32 {
        tirc::TRANSPORT_DOMAIN.get(&self.context) as u32
    }

    /// Where packets go.
    pub fn dispatch(&self) -> Dispatch {
        match tirc::DISPATCH.get(&self.context) {
            0 => Dispatch::Direct(tirc::RQN.get(&self.context) as u32),
            _ => Dispatch::Indirect(tirc::RQT.get(&self.context) as u32),
        }
    }

    /// The hash of a packet.
    pub fn hash(&self, packet: &Packet) -> Hash {
        let function = tirc::HASH.get(&self.context);
        let (Some(ip), true) = (&packet.ip, function != HASH_NONE) else {
            return Hash::default();
        };
        let selected = tirc::SELECTED.get(&self.context);
        let symmetric = tirc::SYMMETRIC.get(&self.context) == 1;
        let (source, destination) = ip.addresses();
        let mut data = Vec::new();
        let both = SOURCE_IP | DESTINATION_IP;
        add(
            &mut data,
            selected & both,
            both,
            symmetric,
            source,
            destination,
        );
        let ports = SOURCE_PORT | DESTINATION_PORT;
        let (source, destination, l4) = match &packet.transport {
            Some(transport) => (
                transport.source.to_be_bytes(),
                transport.destination.to_be_bytes(),
                match transport.protocol {
                    Protocol::Tcp => 1,
                    Protocol::Udp => 2,
                },
            ),
            None => ([0; 2], [0; 2], 0),
        };
        let of_ports = (selected & ports) >> 2;
        add(
            &mut data,
            of_ports,
            ports >> 2,
            symmetric,
            &source,
            &destination,
        );
        let l3 = if ip.version == 4 { 1 } else { 2 };
        let part = |bit: u64, kind: u8, shift: u32| match selected & bit {
            0 => 0,
            _ => kind << shift,
        };
        Hash {
            value: match function {
                HASH_XOR8 => u32::from(!data.iter().fold(0, |sum, byte| sum ^ byte)),
                _ => toeplitz(&self.context[tirc::KEY], &data),
            },
            kind: part(SOURCE_IP, l3, 0)
                | part(DESTINATION_IP, l3, 2)
                | part(SOURCE_PORT, l4, 4)
                | part(DESTINATION_PORT, l4, 6),
        }
    }
}

/// Appends what is selected of a source (bit 0) and a destination (bit 1). Where
/// both are and the hash is symmetric, it is what ethtool calls RXH_XFRM_SYM_OR_XOR:
/// what either has, and what differs.
fn add(data: &mut Vec<u8>, selected: u64, both: u64, symmetric: bool, from: &[u8], to: &[u8]) {
    if symmetric && selected == both {
        data.extend(from.iter().zip(to).map(|(from, to)| from | to));
        data.extend(from.iter().zip(to).map(|(from, to)| from ^ to));
        return;
    }
    if selected & 1 != 0 {
        data.extend_from_slice(from);
    }
    if selected & 2 != 0 {
        data.extend_from_slice(to);
    }
}

/// The hash of Toeplitz.
fn toeplitz(key: &[u8], data: &[u8]) -> u32 {
    let bit = |bytes: &[u8], at: usize| {
        let byte = bytes.get(at / 8).copied().unwrap_or(0);
        u32::from((byte >> (7 - at % 8)) & 1)
    };
    let mut window = (0..32).fold(0, |window, at| (window << 1) | bit(key, at));
    let mut hash = 0;
    for at in 0..data.len() * 8 {
        if bit(data, at) == 1 {
            hash ^= window;
        }
        window = (window << 1) | bit(key, at + 32);
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::tests::tcp4;
    use etherparse::{
        IpNumber,
        PacketBuilder, //
    };
    use std::net::{
        IpAddr,
        SocketAddr, //
    };

    /// The key that the verification suite of RSS has.
    const KEY: [u8; 40] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f,
        0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
        0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];

    fn input(dispatch: u64, hash: u64, selected: u64) -> Vec<u8> {
        let mut input = vec![0; CONTEXT + tirc::LEN];
        let context = &mut input[CONTEXT..];
        tirc::DISPATCH.set(context, dispatch);
        tirc::HASH.set(context, hash);
        tirc::SELECTED.set(context, selected);
        tirc::RQN.set(context, 3);
        tirc::RQT.set(context, 4);
        context[tirc::KEY].copy_from_slice(&KEY);
        input
    }

    /// A packet without data.
    fn packet(from: &str, to: &str, tcp: bool) -> Packet {
        let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
        let builder = PacketBuilder::ethernet2([0; 6], [0; 6]);
        let builder = match (from.ip(), to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => builder.ipv4(from.octets(), to.octets(), 64),
            (IpAddr::V6(from), IpAddr::V6(to)) => builder.ipv6(from.octets(), to.octets(), 64),
            _ => unreachable!("of one family"),
        };
        let mut frame = Vec::new();
        match tcp {
            true => {
                let builder = builder.tcp(from.port(), to.port(), 0, 0);
                builder.write(&mut frame, &[]).unwrap();
            }
            false => builder.write(&mut frame, IpNumber::GRE, &[]).unwrap(),
        }
        Packet::parse(&frame).unwrap()
    }

    /// Microsoft has published them in "Verifying the RSS hash calculation".
    #[test]
    fn hashes_are_those_of_the_verification_suite() {
        let tir = Tir::parse(&input(1, HASH_TOEPLITZ, 0xf)).unwrap();
        for (from, to, of_addresses, of_ports) in [
            (
                "66.9.149.187:2794",
                "161.142.100.80:1766",
                0x323e_8fc2,
                0x51cc_c178,
            ),
            (
                "199.92.111.2:14230",
                "65.69.140.83:4739",
                0xd718_262a,
                0xc626_b0ea,
            ),
            (
                "24.19.198.95:12898",
                "12.22.207.184:38024",
                0xd2d0_a5de,
                0x5c2b_394a,
            ),
            (
                "38.27.205.30:48228",
                "209.142.163.6:2217",
                0x8298_9176,
                0xafc7_327f,
            ),
            (
                "153.39.163.191:44251",
                "202.188.127.2:1303",
                0x5d18_09c5,
                0x10e8_28a2,
            ),
            (
                "[3ffe:2501:200:1fff::7]:2794",
                "[3ffe:2501:200:3::1]:1766",
                0x2cc1_8cd5,
                0x4020_7d3d,
            ),
            (
                "[3ffe:501:8::260:97ff:fe40:efab]:14230",
                "[ff02::1]:4739",
                0x0f0c_461c,
                0xdde5_1bbf,
            ),
            (
                "[3ffe:1900:4545:3:200:f8ff:fe21:67cf]:44251",
                "[fe80::200:f8ff:fe21:67cf]:38024",
                0x4b61_e985,
                0x02d1_feef,
            ),
        ] {
            let hash = |tcp| tir.hash(&packet(from, to, tcp)).value;
            assert_eq!(hash(false), of_addresses, "{from}");
            assert_eq!(hash(true), of_ports, "{from}");
        }
    }

    #[test]
    fn what_is_selected_is_hashed() {
        let frame = tcp4(b"");
        let packet = Packet::parse(&frame).unwrap();
        let tir = Tir::parse(&input(1, HASH_TOEPLITZ, 0xf)).unwrap();
        assert_eq!(tir.dispatch(), Dispatch::Indirect(4));
        let mut data = vec![10, 0, 0, 1, 10, 0, 0, 2];
        let of_addresses = toeplitz(&KEY, &data);
        data.extend_from_slice(&[0x03, 0xe8, 0x07, 0xd0]);
        let hash = tir.hash(&packet);
        assert_eq!((hash.value, hash.kind), (toeplitz(&KEY, &data), 0x55));
        let tir = Tir::parse(&input(1, HASH_TOEPLITZ, 0x3)).unwrap();
        let hash = tir.hash(&packet);
        assert_eq!((hash.value, hash.kind), (of_addresses, 0x05));
        let tir = Tir::parse(&input(0, HASH_NONE, 0)).unwrap();
        assert_eq!(tir.dispatch(), Dispatch::Direct(3));
        assert_eq!(tir.hash(&packet), Hash::default());
    }

    #[test]
    fn a_symmetric_hash_is_that_of_the_answer_too() {
        let mut input = input(1, HASH_TOEPLITZ, 0xf);
        tirc::SYMMETRIC.set(&mut input[CONTEXT..], 1);
        let tir = Tir::parse(&input).unwrap();
        let mut frame = tcp4(b"");
        let one = tir.hash(&Packet::parse(&frame).unwrap());
        for (a, b, len) in [(26, 30, 4), (34, 36, 2)] {
            for i in 0..len {
                frame.swap(a + i, b + i);
            }
        }
        assert_eq!(tir.hash(&Packet::parse(&frame).unwrap()), one);
    }

    #[test]
    fn what_there_is_not_is_refused() {
        for (dispatch, hash, selected) in [(2, 2, 0), (0, 2, 0), (1, 0, 0), (1, 3, 0), (1, 2, 32)] {
            assert!(Tir::parse(&input(dispatch, hash, selected)).is_err());
        }
        let mut tir = Tir::parse(&input(1, HASH_TOEPLITZ, 0xf)).unwrap();
        let xor = input(1, HASH_XOR8, 0x3);
        assert!(tir.modify(1, &xor).is_err());
        tir.modify(tirc::MODIFY_HASH, &xor).unwrap();
        let frame = tcp4(b"");
        let hash = tir.hash(&Packet::parse(&frame).unwrap());
        assert_eq!(hash.value, u32::from(!3u8));
        assert!(tir
            .modify(tirc::MODIFY_HASH, &input(1, HASH_NONE, 0))
            .is_err());
        assert!(tir.modify(tirc::MODIFY_HASH, &xor[1..]).is_err());
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Bytes that each end of a connection can compute: each depends on the connection, on the
//! end that sends it, and on how many bytes come before it. So bytes that are lost, repeated or
//! in another order are wrong bytes, and so are those behind them.

/// Bytes of a word.
const WORD: u64 = 8;

/// An end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The guest's, which connects.
    Guest,
    /// The peer's, which is connected to.
    Peer,
}

impl End {
    /// The one that it talks to.
    pub fn other(self) -> Self {
        match self {
            Self::Guest => Self::Peer,
            Self::Peer => Self::Guest,
        }
    }
}

/// Spreads each bit of a number over all bits of another.
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// What an end of a connection sends.
#[derive(Clone, Copy, Debug)]
pub struct Sequence {
    seed: u64,
}

impl Sequence {
    /// Of an end of the connection with a number.
    pub fn new(connection: u64, end: End) -> Self {
        let seed = mix(connection * 2 + u64::from(end == End::Peer) + 1);
        Self { seed }
    }

    fn word(self, index: u64) -> [u8; WORD as usize] {
        mix(self.seed.wrapping_add(index)).to_le_bytes()
    }

    /// Writes the bytes that begin at a position.
    pub fn fill(self, position: u64, buf: &mut [u8]) {
        let mut done = 0;
        while done < buf.len() {
            let at = position + done as u64;
            let word = &self.word(at / WORD)[(at % WORD) as usize..];
            let len = word.len().min(buf.len() - done);
            buf[done..done + len].copy_from_slice(&word[..len]);
            done += len;
        }
    }
}

/// What has come of a sequence.
#[derive(Debug)]
pub struct Received {
    sequence: Sequence,
    expected: Vec<u8>,
    /// Bytes.
    pub bytes: u64,
    /// Those of them that are not what they should be at their place.
    pub wrong: u64,
}

impl Received {
    /// Nothing yet.
    pub fn new(sequence: Sequence) -> Self {
        Self {
            sequence,
            expected: Vec::new(),
            bytes: 0,
            wrong: 0,
        }
    }

    /// Takes what comes next.
    pub fn take(&mut self, data: &[u8]) {
        self.expected.resize(data.len(), 0);
        self.sequence.fill(self.bytes, &mut self.expected);
        if self.expected != data {
            let pairs = self.expected.iter().zip(data);
            self.wrong += pairs.filter(|(expected, byte)| expected != byte).count() as u64;
        }
        self.bytes += data.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(sequence: Sequence, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        sequence.fill(0, &mut bytes);
        bytes
    }

    /// How many bytes are wrong if these come.
    fn wrong(sequence: Sequence, data: &[u8]) -> u64 {
        let mut received = Received::new(sequence);
        received.take(data);
        assert_eq!(received.bytes, data.len() as u64);
        received.wrong
    }

    #[test]
    fn a_sequence_is_the_same_in_pieces_of_any_size() {
        let sequence = Sequence::new(7, End::Guest);
        let whole = bytes(sequence, 1000);
        for size in [1, 3, 8, 13, 999] {
            let mut received = Received::new(sequence);
            let mut at = 0;
            for piece in whole.chunks(size) {
                let mut filled = vec![0; piece.len()];
                sequence.fill(at, &mut filled);
                assert_eq!(filled, piece);
                at += piece.len() as u64;
                received.take(piece);
            }
            assert_eq!((received.bytes, received.wrong), (1000, 0));
        }
    }

    #[test]
    fn ends_and_connections_differ() {
        let all = [
            Sequence::new(1, End::Guest),
            Sequence::new(1, End::Peer),
            Sequence::new(2, End::Guest),
            Sequence::new(2, End::Peer),
        ];
        for (i, one) in all.iter().enumerate() {
            for other in &all[..i] {
                assert!(wrong(*one, &bytes(*other, 4096)) > 4000);
            }
        }
    }

    #[test]
    fn loss_repetition_and_order_are_noticed() {
        let sequence = Sequence::new(3, End::Peer);
        let whole = bytes(sequence, 4096);
        // Of 256 wrong bytes, one is right by chance.
        for len in [1, 8, 1448] {
            let lost = [&whole[..1000], &whole[1000 + len..]].concat();
            assert!(wrong(sequence, &lost) > (4096 - 1000 - len as u64) * 9 / 10);
            let repeated = [&whole[..1000 + len], &whole[1000..]].concat();
            assert!(wrong(sequence, &repeated) > 3000 * 9 / 10);
        }
        let swapped = [&whole[..1000], &whole[2000..3000], &whole[1000..2000]].concat();
        assert!(wrong(sequence, &swapped) > 1900);
        let mut flipped = whole.clone();
        flipped[77] ^= 1;
        assert_eq!(wrong(sequence, &flipped), 1);
    }
}

// SPDX-License-Identifier: GPL-2.0

//! The attributes of netlink messages.

/// Attributes that have others in them say so in their type.
pub const NESTED: u16 = 1 << 15;

/// One attribute of a message.
pub fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// One attribute whose value is a text.
pub fn text_attribute(kind: u16, text: &str) -> Vec<u8> {
    attribute(kind, &[text.as_bytes(), &[0]].concat())
}

/// The attributes of a message, or in another attribute.
pub fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while let [a, b, c, d, ..] = *bytes {
        let len = usize::from(u16::from_ne_bytes([a, b]));
        let Some(value) = bytes.get(4..len) else {
            break;
        };
        found.push((u16::from_ne_bytes([c, d]) & !NESTED, value));
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// The value of a text attribute.
pub fn text_of(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&value[..end.unwrap_or(value.len())]).into_owned()
}

/// The 16-bit number at an offset.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The word at an offset.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_they_were_written() {
        let inner = text_attribute(3, "pci");
        let bytes = [attribute(5 | NESTED, &inner), attribute(7, &[1])].concat();
        let all = attributes(&bytes);
        assert_eq!(all[0].0, 5);
        assert_eq!(text_of(attributes(all[0].1)[0].1), "pci");
        assert_eq!(all[1], (7, &[1][..]));
        // Lengths that are none end the list.
        assert!(attributes(&[3, 0, 0, 0]).is_empty());
        assert!(attributes(&[200, 0, 1, 0, 1]).is_empty());
    }
}

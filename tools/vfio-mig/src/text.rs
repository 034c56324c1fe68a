// SPDX-License-Identifier: GPL-2.0

//! Text that others have written: names of processes, drivers and files, and messages of a peer.
//!
//! The tool runs as root, and prints such text to root's terminal.

use std::path::Path;

/// Whether a terminal takes `c` for a command, or for one that orders the text around it:
/// control characters, the separators of lines and paragraphs, and what embeds, overrides or
/// isolates a direction.
pub fn is_command(c: char) -> bool {
    let orders = matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    orders || c.is_control()
}

/// Returns `text` in one line, which commands no terminal.
pub fn shown(text: &str) -> String {
    text.replace(is_command, "\u{fffd}")
}

/// Returns `text`, in which lines end, without what commands a terminal.
pub fn shown_lines(text: &str) -> String {
    text.replace(|c| c != '\n' && is_command(c), "\u{fffd}")
}

/// Returns the name of a file in one line, which commands no terminal.
pub fn shown_path(path: &Path) -> String {
    shown(&path.display().to_string())
}

/// Returns `text` as a word of a shell's command line.
pub fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.to_string(),
        false => shown(&format!("'{}'", text.replace('\'', r"'\''"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_quoted_if_a_shell_needs_that() {
        for (text, word) in [
            ("/tmp/kept-1.d", "/tmp/kept-1.d"),
            ("", "''"),
            ("a b", "'a b'"),
            ("$HOME", "'$HOME'"),
            ("it's", r"'it'\''s'"),
        ] {
            assert_eq!(quoted(text), word);
        }
    }

    #[test]
    fn what_commands_a_terminal_is_replaced() {
        let controls = "\0\x07\x08\t\n\r\x1b\x7f\u{85}\u{9b}";
        let orders = "\u{2028}\u{2029}\u{202a}\u{202e}\u{2066}\u{2069}";
        for c in controls.chars().chain(orders.chars()) {
            assert_eq!(shown(&format!("a{c}b")), "a\u{fffd}b", "{c:?}");
        }
        let harmless = "vfio-mig 1: ä█▁\u{2027}\u{202f}\u{2065}\u{206a}\u{fffd}";
        assert_eq!(shown(harmless), harmless);
        assert_eq!(shown_lines("a\x1b[2J\nb\r\n"), "a\u{fffd}[2J\nb\u{fffd}\n");
        assert_eq!(shown_path(Path::new("/tmp/a\nb")), "/tmp/a\u{fffd}b");
    }
}

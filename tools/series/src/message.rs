// SPDX-License-Identifier: GPL-2.0

//! A patch's message, and what it changes in files that the kernel has.

use anyhow::{
    ensure,
    Context,
    Result, //
};

/// The first line of each file.
const LICENCE: &str = "# SPDX-License-Identifier: GPL-2.0";
/// Maintainers' tools show a subject of this length without wrapping it.
const SUBJECT: usize = 75;

/// A message.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    /// Its first line.
    pub subject: String,
    /// The text, and the tags that are not the author's.
    pub body: String,
    /// Changes to files of the kernel, as `git apply` takes them.
    pub diff: Option<String>,
}

/// What comes after the first line of a file.
pub fn without_licence(text: &str) -> Result<&str> {
    let (first, rest) = text.split_once('\n').context("the file is empty")?;
    ensure!(first == LICENCE, "the first line is not {LICENCE:?}");
    Ok(rest)
}

impl Message {
    /// Takes the text of a file apart.
    pub fn parse(text: &str) -> Result<Self> {
        let text = without_licence(text)?;
        let (message, diff) = match text.split_once("\n---\n") {
            Some((message, diff)) => (message, Some(diff)),
            None => (text, None),
        };
        let (subject, body) = message.split_once('\n').context("it has no body")?;
        ensure!(
            subject.contains(": ") && subject.len() <= SUBJECT,
            "the subject is not \"SUBSYSTEM: WHAT\" of at most {SUBJECT} characters: {subject:?}"
        );
        ensure!(
            body.starts_with('\n') && !body.trim().is_empty(),
            "no body comes after the subject and an empty line"
        );
        if let Some(diff) = diff {
            ensure!(
                diff.trim_start().starts_with("diff --git ")
                    || diff.trim_start().starts_with("--- "),
                "no diff comes after \"---\""
            );
        }
        Ok(Self {
            subject: subject.to_string(),
            body: body.trim().to_string(),
            diff: diff.map(|diff| format!("{}\n", diff.trim_matches('\n'))),
        })
    }

    /// The message of a commit by `author`.
    pub fn commit(&self, author: &str) -> String {
        let last = self.body.rsplit("\n\n").next().unwrap_or_default();
        let is_tag = |line: &str| {
            line.split_once(": ").is_some_and(|(name, _)| {
                name.chars().all(|c| c.is_ascii_alphabetic() || c == '-')
                    && name.starts_with(|c: char| c.is_ascii_uppercase())
            })
        };
        // Tags are one paragraph.
        let gap = match last.lines().all(is_tag) {
            true => "\n",
            false => "\n\n",
        };
        format!(
            "{}\n\n{}{gap}Signed-off-by: {author}\n",
            self.subject, self.body
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> String {
        format!("{LICENCE}\n{text}")
    }

    #[test]
    fn a_message_has_subject_body_and_diff() {
        let text = file("vfio: Do it\n\nSince it is right.\n---\ndiff --git a/x b/x\n-1\n+2\n");
        let message = Message::parse(&text).unwrap();
        assert_eq!(message.subject, "vfio: Do it");
        assert_eq!(message.body, "Since it is right.");
        assert_eq!(
            message.diff.as_deref(),
            Some("diff --git a/x b/x\n-1\n+2\n")
        );
        assert_eq!(
            message.commit("A <a@b>"),
            "vfio: Do it\n\nSince it is right.\n\nSigned-off-by: A <a@b>\n"
        );
    }

    #[test]
    fn tags_are_one_paragraph() {
        let tags = "Fixes: 0123456789ab (\"x\")\nCc: stable@vger.kernel.org\n";
        let text = file(&format!("vfio: Do it\n\nWhy: so.\nIt is.\n\n{tags}"));
        let message = Message::parse(&text).unwrap();
        assert!(message
            .commit("A <a@b>")
            .ends_with(&format!("It is.\n\n{tags}Signed-off-by: A <a@b>\n")));
    }

    #[test]
    fn a_message_without_reasons_is_refused() {
        for text in [
            "vfio: Do it\n",
            "vfio: Do it\n\n",
            "vfio: Do it\nat once\n",
            "Do it\n\nWhy not.\n",
            "vfio: Do it\n\nWhy not.\n---\nnothing\n",
        ] {
            assert!(Message::parse(&file(text)).is_err(), "{text:?}");
        }
        assert!(Message::parse("vfio: Do it\n\nWhy not.\n").is_err());
    }
}

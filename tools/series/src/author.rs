// SPDX-License-Identifier: GPL-2.0

//! Whom the mails are from.

use anyhow::{
    bail,
    Result, //
};

/// Who a series is from.
#[derive(Clone, Debug)]
pub struct Author {
    pub name: String,
    pub email: String,
}

impl std::str::FromStr for Author {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = text
            .strip_suffix('>')
            .and_then(|text| text.split_once(" <"));
        // Git leaves some signs out of From:, which would then differ from Signed-off-by:.
        let is_name = |name: &str| {
            name.split(' ').all(|word| !word.is_empty())
                && !name.contains(|c: char| c.is_control() || "\"\\<>".contains(c))
        };
        let is_address = |address: &str| {
            address.contains('@')
                && !address
                    .contains(|c: char| c.is_control() || c.is_whitespace() || "<>".contains(c))
        };
        match parts {
            Some((name, email)) if is_name(name) && is_address(email) => Ok(Self {
                name: name.to_string(),
                email: email.to_string(),
            }),
            _ => bail!("{text:?} is not \"NAME <ADDRESS>\""),
        }
    }
}

impl std::fmt::Display for Author {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} <{}>", self.name, self.email)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_author_is_as_mails_have_it() {
        for good in [
            "A <a@b>",
            "A. B. O'C <a@b>",
            "\u{674e} <a@b>",
            "C, A (X) <a@b>",
        ] {
            let author: Author = good.parse().unwrap();
            assert_eq!(author.to_string(), good);
        }
        for bad in [
            "A",
            "<a@b>",
            " <a@b>",
            "A <a>",
            "A <a@b> ",
            "A  B <a@b>",
            " A <a@b>",
            "A\nB <a@b>",
            "\"A\" B <a@b>",
            "A\\B <a@b>",
            "A <a b@c>",
            "A <B <a@b>",
        ] {
            assert!(bad.parse::<Author>().is_err(), "{bad:?}");
        }
    }
}

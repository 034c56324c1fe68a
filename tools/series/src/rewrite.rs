// SPDX-License-Identifier: GPL-2.0

//! What is changed in a file on its way to the kernel.
//!
//! Outside the kernel, what its crate lacks is a module of `vfio_rust`, `kernel`. In the kernel, it
//! is in the crate itself: paths differ, and some things have other names there.

use crate::{
    imports::{
        self,
        Piece, //
    },
    program, //
};
use anyhow::{
    Context,
    Result, //
};
use serde::Deserialize;
use std::{
    cell::{
        Cell,
        RefCell, //
    },
    collections::BTreeMap,
    path::Path,
    process::Command, //
};

/// The module `kernel` of this crate becomes the kernel crate.
const CRATE: &str = "vfio_rust";

/// Another path.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PathRule {
    /// Below the module `kernel` of the crate.
    from: String,
    /// Below the kernel crate. Without it, nothing is imported: the prelude has it, or it is a
    /// trait of which nothing is left.
    to: Option<String>,
    #[serde(skip)]
    used: Cell<bool>,
}

/// Another text.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TextRule {
    from: String,
    to: String,
    /// Only in paths of this tree that begin so.
    #[serde(default)]
    within: String,
    #[serde(skip)]
    used: Cell<bool>,
}

/// What the kernel does not get.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stays {
    /// A file of this tree, or a folder with a slash at its end.
    file: String,
    /// Why.
    #[allow(dead_code)] // for the reader of the file
    reason: String,
}

/// All rules.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    #[serde(default)]
    stays: Vec<Stays>,
    #[serde(default)]
    path: Vec<PathRule>,
    #[serde(default)]
    text: Vec<TextRule>,
    /// What rustfmt has made of texts: each patch of a series needs most of them again.
    #[serde(skip)]
    formatted: RefCell<BTreeMap<String, String>>,
}

/// `path` without `prefix`, which ends where a segment does.
fn below<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(prefix)?;
    match rest.is_empty() {
        true => Some(rest),
        false => rest.strip_prefix("::"),
    }
}

fn joined(above: &str, rest: &str) -> String {
    match (above, rest) {
        ("", _) => rest.to_string(),
        (_, "") => above.to_string(),
        _ => format!("{above}::{rest}"),
    }
}

/// The text as the kernel's `make rustfmt` leaves it. Other imports are in another order.
fn formatted(text: &str) -> Result<String> {
    let mut command = Command::new("rustfmt");
    program::output(command.args(["--edition", "2021"]), text)
}

impl Rules {
    /// Where something of the module `kernel` is in the kernel crate. The longest rule counts.
    fn path(&self, path: &str) -> Option<String> {
        let fits = self.path.iter().filter_map(|rule| {
            let rest = below(path, &rule.from)?;
            Some((rule, rest))
        });
        let Some((rule, rest)) = fits.max_by_key(|(rule, _)| rule.from.len()) else {
            return Some(path.to_string());
        };
        rule.used.set(true);
        rule.to.as_ref().map(|to| joined(to, rest))
    }

    /// What is imported in place of `path`. `own` is what the file's crate calls `vfio_rust`, and
    /// `kernel` what it calls the kernel crate.
    fn import(&self, path: &str, own: &str, kernel: &str) -> Option<String> {
        let module = format!("{own}::kernel");
        if let Some(rest) = below(path, &module) {
            return self.path(rest).map(|path| joined(kernel, &path));
        }
        match below(path, "kernel") {
            Some(rest) => Some(joined(kernel, rest)),
            None => Some(path.to_string()),
        }
    }

    /// The text that the file `from` has as `to` in the kernel.
    pub fn apply(&self, original: &str, from: &str, to: &str) -> Result<String> {
        let mut text = original.to_string();
        for rule in self
            .text
            .iter()
            .filter(|rule| from.starts_with(&rule.within))
        {
            if text.contains(&rule.from) {
                rule.used.set(true);
                text = text.replace(&rule.from, &rule.to);
            }
        }
        if Path::new(from)
            .extension()
            .is_none_or(|extension| extension != "rs")
        {
            return Ok(text);
        }
        let moved = to.starts_with("rust/kernel/");
        let own = match from.starts_with("drivers/vfio/rust/") {
            true => "crate",
            false => CRATE,
        };
        let mut done = String::new();
        for piece in imports::pieces(&text).with_context(|| from.to_string())? {
            match piece {
                Piece::Text(text) => done += &text,
                Piece::Imports(mut imports, text) => {
                    let (own, kernel) = match (imports.is_example(), moved) {
                        (true, _) => (CRATE, "kernel"),
                        (false, true) => (own, "crate"),
                        (false, false) => (own, "kernel"),
                    };
                    let paths = imports.paths.iter();
                    let paths: Vec<_> = paths
                        .filter_map(|path| self.import(path, own, kernel))
                        .collect();
                    if paths == imports.paths {
                        done += &text;
                        continue;
                    }
                    imports.paths = paths;
                    done += &imports.text();
                }
            }
        }
        if done == original {
            return Ok(done);
        }
        self.format(done, from)
    }

    /// The text of a Rust file as rustfmt leaves it.
    pub fn format(&self, text: String, of: &str) -> Result<String> {
        if let Some(text) = self.formatted.borrow().get(&text) {
            return Ok(text.clone());
        }
        let done = formatted(&text).with_context(|| of.to_string())?;
        self.formatted.borrow_mut().insert(text, done.clone());
        Ok(done)
    }

    /// Whether the kernel does not get a file.
    pub fn stays(&self, file: &str) -> bool {
        self.stays.iter().any(|one| match one.file.ends_with('/') {
            true => file.starts_with(&one.file),
            false => file == one.file,
        })
    }

    /// Rules that no file needs any more.
    pub fn unused(&self) -> Vec<&str> {
        let paths = self.path.iter().filter(|rule| !rule.used.get());
        let texts = self.text.iter().filter(|rule| !rule.used.get());
        paths
            .map(|rule| rule.from.as_str())
            .chain(texts.map(|rule| rule.from.as_str()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        toml::from_str(
            "[[path]]\nfrom = 'page'\nto = 'pages'\n[[path]]\nfrom = 'device::Ext'\n\
             [[path]]\nfrom = 'nowhere'\nto = 'x'\n[[text]]\nfrom = 'old()'\nto = 'NEW'\n",
        )
        .unwrap()
    }

    #[test]
    fn the_module_becomes_the_crate() {
        let rules = rules();
        let text =
            "use crate::{\n    kernel::{\n        device::Ext,\n        page::Pages, //\n    \
                    },\n    other, //\n};\nuse kernel::prelude::*;\n\nfn f() {\n    old()\n}\n";
        assert_eq!(
            rules
                .apply(text, "drivers/vfio/rust/x.rs", "drivers/vfio/rust/x.rs")
                .unwrap(),
            "use crate::other;\nuse kernel::{\n    pages::Pages,\n    prelude::*, //\n};\n\n\
             fn f() {\n    NEW\n}\n"
        );
        assert_eq!(rules.unused(), ["nowhere"]);
    }

    #[test]
    fn a_moved_file_is_of_the_crate() {
        let text = "/// use vfio_rust::kernel::page::Pages;\nuse kernel::prelude::*;\n";
        assert_eq!(
            rules()
                .apply(text, "drivers/vfio/rust/kernel/x.rs", "rust/kernel/x.rs")
                .unwrap(),
            "/// use kernel::pages::Pages;\nuse crate::prelude::*;\n"
        );
    }

    #[test]
    fn drivers_name_the_crate() {
        let text = "use vfio_rust::{\n    file,\n    kernel::page, //\n};\n";
        assert_eq!(
            rules().apply(text, "samples/x.rs", "samples/x.rs").unwrap(),
            "use kernel::pages;\nuse vfio_rust::file;\n"
        );
    }

    #[test]
    fn what_needs_no_change_stays_as_it_is() {
        let text = "use kernel::{b, a};\n";
        assert_eq!(
            rules().apply(text, "samples/x.rs", "samples/x.rs").unwrap(),
            text
        );
    }
}

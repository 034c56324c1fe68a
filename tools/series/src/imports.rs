// SPDX-License-Identifier: GPL-2.0

//! `use` statements: taken apart to paths, and put together in the kernel's style.

use anyhow::{
    bail,
    ensure,
    Context,
    Result, //
};
use std::collections::BTreeMap;

/// A statement, or several with the same beginning that follow each other.
#[derive(Debug, PartialEq, Eq)]
pub struct Imports {
    /// What each line begins with: spaces, and the signs of a comment.
    prefix: String,
    /// `pub `, or nothing.
    visibility: String,
    /// What is imported, each from the crate on.
    pub paths: Vec<String>,
}

/// What is in a file: imports, and what is between them.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Lines, with their ends.
    Text(String),
    /// Imports, and the lines that they were.
    Imports(Imports, String),
}

/// The beginning of a line: spaces, and the signs of a comment whose text may be Rust.
fn prefix(line: &str) -> &str {
    let spaces = line.len() - line.trim_start().len();
    let (indent, rest) = line.split_at(spaces);
    for sign in ["/// # ", "//! # ", "/// ", "//! "] {
        if rest.starts_with(sign) {
            return &line[..indent.len() + sign.len()];
        }
    }
    indent
}

/// The visibility of a line that begins a statement.
fn visibility(text: &str) -> Option<&'static str> {
    ["", "pub ", "pub(crate) "].into_iter().find(|visibility| {
        text.strip_prefix(visibility)
            .is_some_and(|rest| rest.starts_with("use "))
    })
}

/// Adds each path of a tree, which may be a path, `*`, `{...}`, or one after another.
fn leaves<'a>(
    tokens: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>,
    above: &str,
    to: &mut Vec<String>,
) -> Result<()> {
    let mut path = above.to_string();
    loop {
        match tokens.next().context("it ends in a path")? {
            "{" => {
                while tokens.peek() != Some(&"}") {
                    leaves(tokens, &path, to)?;
                    if tokens.peek() == Some(&",") {
                        tokens.next();
                    }
                }
                tokens.next();
                return Ok(());
            }
            token
                if token == "*" || token.starts_with(|c: char| c.is_alphanumeric() || c == '_') =>
            {
                path += token;
                match tokens.peek() {
                    Some(&"::") => {
                        tokens.next();
                        path += "::";
                    }
                    Some(&"as") => {
                        tokens.next();
                        let name = tokens.next().context("it ends in a name")?;
                        to.push(format!("{path} as {name}"));
                        return Ok(());
                    }
                    _ => {
                        to.push(path);
                        return Ok(());
                    }
                }
            }
            other => bail!("{other:?} is in a path"),
        }
    }
}

fn tokens(text: &str) -> Vec<&str> {
    let mut rest = text.trim_start();
    let mut all = Vec::new();
    while !rest.is_empty() {
        let len = if rest.starts_with("//") {
            let end = rest.find('\n').unwrap_or(rest.len());
            rest = rest[end..].trim_start();
            continue;
        } else if rest.starts_with("::") {
            2
        } else {
            let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
            word.unwrap_or(rest.len()).max(1)
        };
        all.push(&rest[..len]);
        rest = rest[len..].trim_start();
    }
    all
}

/// Takes the text of a file apart.
pub fn pieces(text: &str) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut lines = text.split_inclusive('\n').peekable();
    let mut between = String::new();
    // An attribute belongs to the one statement after it.
    let mut alone = false;
    while let Some(line) = lines.next() {
        let begin = prefix(line).to_string();
        let Some(visibility) = visibility(&line[begin.len()..]).filter(|_| !alone) else {
            let code = line[begin.len()..].trim();
            alone = code.starts_with("#[") && !code.contains("use ");
            between += line;
            continue;
        };
        let mut whole = line.to_string();
        let mut code = line[begin.len()..].to_string();
        while !code.contains(';') {
            let line = lines.next().context("a use has no end")?;
            let rest = line.strip_prefix(begin.trim_end());
            code += rest.context("a line of a use has another indent")?;
            whole += line;
        }
        let tree = code.trim_end();
        let tree = tree
            .strip_suffix(';')
            .context("more follows in the line of a use")?;
        let tree = &tree[visibility.len() + "use ".len()..];
        let mut paths = Vec::new();
        let tokens = tokens(tree);
        let mut tokens = tokens.into_iter().peekable();
        leaves(&mut tokens, "", &mut paths).with_context(|| whole.clone())?;
        ensure!(tokens.next().is_none(), "more is in {whole:?}");
        if !between.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut between)));
        }
        match pieces.last_mut() {
            Some(Piece::Imports(last, text))
                if last.prefix == begin && last.visibility == visibility =>
            {
                last.paths.extend(paths);
                *text += &whole;
            }
            _ => pieces.push(Piece::Imports(
                Imports {
                    prefix: begin,
                    visibility: visibility.to_string(),
                    paths,
                },
                whole,
            )),
        }
    }
    if !between.is_empty() {
        pieces.push(Piece::Text(between));
    }
    Ok(pieces)
}

/// A tree of paths, by their segments. A path that ends at a node has `ends`.
#[derive(Default)]
struct Node {
    ends: bool,
    below: BTreeMap<(u8, String), Node>,
}

/// The order of rustfmt: modules, then types, then constants, then all.
fn rank(name: &str) -> u8 {
    match name.chars().next() {
        Some('*') => 3,
        Some(c) if c.is_lowercase() || c == '_' => 0,
        Some(_) if name.len() > 1 && !name.chars().any(char::is_lowercase) => 2,
        _ => 1,
    }
}

impl Node {
    fn insert(&mut self, path: &str) {
        match path.split_once("::") {
            Some((first, rest)) => self.at(first).insert(rest),
            None => self.at(path).ends = true,
        }
    }

    fn at(&mut self, name: &str) -> &mut Self {
        self.below
            .entry((rank(name), name.to_string()))
            .or_default()
    }

    /// What is below, each with its own braces.
    fn items(&self) -> Vec<String> {
        let mut items = Vec::new();
        for ((_, name), node) in &self.below {
            if node.below.is_empty() {
                items.push(name.clone());
                continue;
            }
            let mut below = node.items();
            if node.ends {
                below.insert(0, "self".to_string());
            }
            if let [one] = &below[..] {
                items.push(format!("{name}::{one}"));
                continue;
            }
            let mut text = format!("{name}::{{\n");
            for (i, item) in below.iter().enumerate() {
                let end = if i + 1 == below.len() { ", //" } else { "," };
                text += &format!("    {}{end}\n", item.replace('\n', "\n    "));
            }
            items.push(text + "}");
        }
        items
    }
}

impl Imports {
    /// Whether these are in an example, whose crate is another one.
    pub fn is_example(&self) -> bool {
        self.prefix.contains("//")
    }

    /// The statements, one for each crate.
    pub fn text(&self) -> String {
        let mut root = Node::default();
        for path in &self.paths {
            root.insert(path);
        }
        let mut text = String::new();
        for item in root.items() {
            for line in format!("{}use {item};", self.visibility).lines() {
                text += format!("{}{line}", self.prefix).trim_end();
                text.push('\n');
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STYLE: &str = "use kernel::{\n    page::{\n        self,\n        Page,\n        \
                         PAGE_SIZE, //\n    },\n    prelude::*, //\n};\n";

    fn imports(text: &str) -> Imports {
        match pieces(text).unwrap().remove(0) {
            Piece::Imports(imports, _) => imports,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn paths_are_put_together_as_they_were() {
        let all = imports(STYLE);
        let paths = ["page::self", "page::Page", "page::PAGE_SIZE", "prelude::*"];
        assert_eq!(all.paths, paths.map(|path| format!("kernel::{path}")));
        assert_eq!(all.text(), STYLE);
        assert_eq!(imports("use a::B as C;\n").text(), "use a::B as C;\n");
    }

    #[test]
    fn examples_and_indents_are_kept() {
        let lines: Vec<_> = STYLE
            .lines()
            .map(|line| format!("    /// {line}"))
            .collect();
        let example = lines.join("\n") + "\n";
        assert!(imports(&example).is_example());
        assert_eq!(imports(&example).text(), example);
        let hidden = "/// # use kernel::prelude::*;\n";
        assert_eq!(imports(hidden).text(), hidden);
    }

    #[test]
    fn statements_that_follow_each_other_are_one() {
        let text = "use crate::b;\nuse kernel::c;\nfn f() {}\npub use d::E;\n";
        let all = pieces(text).unwrap();
        assert_eq!(all.len(), 3);
        let Piece::Imports(first, _) = &all[0] else {
            panic!("{all:?}");
        };
        assert_eq!(first.text(), "use crate::b;\nuse kernel::c;\n");
    }

    #[test]
    fn a_statement_with_an_attribute_stays() {
        let text = "#[cfg(X)]\nuse a::b;\n";
        assert_eq!(pieces(text).unwrap(), [Piece::Text(text.to_string())]);
    }
}

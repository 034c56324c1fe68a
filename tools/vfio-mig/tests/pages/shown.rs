// SPDX-License-Identifier: GPL-2.0

//! What pages show of the tool: commands, and what they print. Also compiled into the init
//! of test machines, which runs those that need a device.

/// The pages with such commands.
pub const PAGES: [(&str, &str); 2] = [
    (
        "vfio-mig.rst",
        include_str!("../../../../Documentation/userspace-api/vfio-rust/vfio-mig.rst"),
    ),
    (
        "operators.rst",
        include_str!("../../../../Documentation/userspace-api/vfio-rust/operators.rst"),
    ),
];

/// Stands for any number of lines, or for a part of a line.
const ANYTHING: &str = "...";

/// A command that a page shows.
pub struct Shown {
    /// The page.
    pub page: &'static str,
    /// Whether it needs a device: its prompt is that of root, `#`. Other commands have `$`.
    pub needs_device: bool,
    /// Its arguments.
    pub args: Vec<String>,
    /// What it prints. Nothing if the page does not show that.
    pub output: Vec<String>,
}

/// Returns the prompt of a command, and its arguments.
fn command(line: &str) -> Option<(bool, &str)> {
    let root = line.strip_prefix("# vfio-mig ").map(|args| (true, args));
    root.or_else(|| line.strip_prefix("$ vfio-mig ").map(|args| (false, args)))
}

/// The commands of a page: each in a block that is indented as the command is.
pub fn on(page: &'static str, text: &str) -> Vec<Shown> {
    let mut all: Vec<Shown> = Vec::new();
    let mut lines = text.lines();
    // How far the block is indented that the last command is in.
    let mut block = None;
    while let Some(line) = lines.next() {
        let indent = line.len() - line.trim_start().len();
        if indent > 0 {
            if let Some((needs_device, args)) = command(line.trim_start()) {
                let mut args = args.to_string();
                while let Some(begun) = args.strip_suffix('\\') {
                    args = format!("{begun}{}", lines.next().unwrap_or_default());
                }
                all.push(Shown {
                    page,
                    needs_device,
                    args: args.split_whitespace().map(str::to_string).collect(),
                    output: Vec::new(),
                });
                block = Some(indent);
                continue;
            }
        }
        match (block, all.last_mut()) {
            (Some(_), Some(shown)) if line.is_empty() => shown.output.push(String::new()),
            (Some(at), Some(shown)) if indent >= at => shown.output.push(line[at..].to_string()),
            _ => block = None,
        }
    }
    for shown in &mut all {
        while shown.output.last().is_some_and(String::is_empty) {
            shown.output.pop();
        }
    }
    all
}

/// The commands of all pages.
pub fn all() -> Vec<Shown> {
    PAGES
        .iter()
        .flat_map(|(page, text)| on(page, text))
        .collect()
}

/// A line without what differs from run to run: numbers, but those of a list of tests, and
/// how far columns are apart.
fn masked(line: &str) -> String {
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    if ["1..", "ok ", "# vfio.h:"]
        .iter()
        .any(|of| line.starts_with(of))
    {
        return line;
    }
    let mut masked = String::new();
    for c in line.chars() {
        match c {
            '0'..='9' if masked.ends_with('N') => (),
            '0'..='9' => masked.push('N'),
            c => masked.push(c),
        }
    }
    masked
}

fn line_matches(shown: &str, printed: &str) -> bool {
    let (shown, printed) = (masked(shown), masked(printed));
    match shown.split_once(ANYTHING) {
        None => shown == printed,
        Some((begin, end)) => {
            let rest = printed.strip_prefix(begin);
            rest.is_some_and(|rest| rest.ends_with(end))
        }
    }
}

fn lines_match(shown: &[String], printed: &[&str]) -> bool {
    match shown.split_first() {
        None => printed.is_empty(),
        Some((first, rest)) if first == ANYTHING => {
            (0..=printed.len()).any(|n| lines_match(rest, &printed[n..]))
        }
        Some((first, rest)) => printed
            .split_first()
            .is_some_and(|(line, others)| line_matches(first, line) && lines_match(rest, others)),
    }
}

impl Shown {
    /// Says what the page and what the command has printed, if the two differ.
    pub fn compare(&self, printed: &str) -> Result<(), String> {
        let lines: Vec<&str> = printed.trim_end().lines().collect();
        if lines_match(&self.output, &lines) {
            return Ok(());
        }
        Err(format!(
            "vfio-mig {}: {} shows\n{}\nand the tool prints\n{}",
            self.args.join(" "),
            self.page,
            self.output.join("\n"),
            lines.join("\n")
        ))
    }
}

// SPDX-License-Identifier: GPL-2.0

//! `man`: the manual, made from the command line's own definition.

mod surroundings;
mod synopsis;

use super::{
    command, examples,
    out::{
        self,
        errln,
        outln, //
    },
};
use clap::{
    builder::ValueHint,
    Command, //
};
use clap_mangen::{
    roff::{
        bold,
        roman,
        Roff, //
    },
    Man, //
};
use std::{
    fs,
    io::{
        self,
        IsTerminal,
        Write, //
    },
    path::PathBuf,
};
use vfio_mig::{
    error::{
        Context,
        Error, //
    },
    text, //
};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Write a page for the tool, and one for each command, to this folder.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    out: Option<PathBuf>,
}

/// The section of the manual: commands of the administrator.
const SECTION: &str = "8";

/// A command as `clap_mangen` takes it.
fn manual(command: Command) -> Man {
    let title = command.get_display_name().unwrap_or("vfio-mig").to_string();
    let source = concat!("vfio-mig ", env!("CARGO_PKG_VERSION"));
    Man::new(command)
        .title(title.to_uppercase())
        .section(SECTION)
        .source(source)
        .manual("VFIO migration")
}

/// The commands that have a page.
fn documented(tool: &Command) -> impl Iterator<Item = &Command> {
    tool.get_subcommands()
        .filter(|sub| sub.get_name() != "help")
}

/// The sections that say how to call a command.
fn usage(page: &mut Vec<u8>, command: &Command) -> io::Result<()> {
    let man = manual(command.clone());
    synopsis::section(page, command)?;
    man.render_description_section(page)?;
    man.render_options_section(page)
}

/// The section with the examples of a command, or of the tool.
fn examples_section(page: &mut Vec<u8>, command: &str) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", ["EXAMPLES"]);
    for (what, line) in examples::of(command) {
        roff.control("PP", []);
        roff.text([roman(*what)]);
        roff.control("PP", []);
        roff.control("RS", ["4"]);
        roff.control("EX", []);
        roff.text([roman(*line)]);
        roff.control("EE", []);
        roff.control("RE", []);
    }
    roff.to_writer(page)
}

/// Puts a section of the name of each of `commands`, with what it is about, on a page.
fn references(page: &mut Vec<u8>, commands: &[&Command]) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", ["COMMANDS"]);
    for command in commands {
        let name = command.get_display_name().unwrap_or_default();
        let about = command.get_about().map(ToString::to_string);
        roff.control("TP", []);
        roff.text([bold(name), roman(format!("({SECTION})"))]);
        roff.text([roman(about.unwrap_or_default())]);
    }
    roff.to_writer(page)
}

fn see_also(page: &mut Vec<u8>, names: &[&str]) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]);
    for name in names {
        roff.text([bold(*name), roman(format!("({SECTION})"))]);
    }
    let page_of = "Documentation/userspace-api/vfio-rust/vfio-mig.rst in the source";
    roff.control("PP", []);
    roff.text([roman(format!("{page_of} says more."))]);
    roff.to_writer(page)
}

/// Gives a page what its sections begin with, such as the definition of an apostrophe, once.
/// `roff` writes that before each of them.
fn with_one_preamble(sections: &[u8]) -> io::Result<Vec<u8>> {
    let mut preamble = Vec::new();
    Roff::new().to_writer(&mut preamble)?;
    let preamble = String::from_utf8_lossy(&preamble);
    let sections = String::from_utf8_lossy(sections);
    Ok(format!("{preamble}{}", sections.replace(&*preamble, "")).into_bytes())
}

/// The whole manual as one page, which refers to no other one.
fn whole() -> io::Result<Vec<u8>> {
    let mut tool = command();
    tool.build();
    let mut page = Vec::new();
    let man = manual(tool.clone());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    usage(&mut page, &tool)?;
    examples_section(&mut page, "")?;
    for sub in documented(&tool) {
        writeln!(page, ".SH \"{}\"", sub.get_name().to_uppercase())?;
        let mut sections = Vec::new();
        usage(&mut sections, sub)?;
        examples_section(&mut sections, sub.get_name())?;
        // Parts of this section.
        let sections = String::from_utf8_lossy(&sections).replace("\n.SH ", "\n.SS ");
        page.extend(sections.as_bytes());
    }
    surroundings::sections(&mut page)?;
    with_one_preamble(&page)
}

/// The name of a file, and the page in it: of the tool, and of each command.
fn pages() -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut tool = command();
    tool.build();
    let commands: Vec<&Command> = documented(&tool).collect();
    let mut pages = Vec::new();
    for command in [&tool].into_iter().chain(commands.iter().copied()) {
        let is_tool = command.get_name() == tool.get_name();
        let man = manual(command.clone());
        let mut page = Vec::new();
        man.render_title(&mut page)?;
        man.render_name_section(&mut page)?;
        usage(&mut page, command)?;
        if is_tool {
            references(&mut page, &commands)?;
            examples_section(&mut page, "")?;
            surroundings::sections(&mut page)?;
            see_also(&mut page, &[])?;
        } else {
            examples_section(&mut page, command.get_name())?;
            see_also(&mut page, &[tool.get_name()])?;
        }
        pages.push((man.get_filename(), with_one_preamble(&page)?));
    }
    Ok(pages)
}

/// Prints the whole manual. A terminal shows the source of the page: what to do about that is
/// said last, just above the shell's prompt.
fn print() -> Result<(), Error> {
    whole()
        .and_then(|page| out::stdout().write_all(&page))
        .context("standard output")?;
    if io::stdout().is_terminal() {
        out::flush()?;
        errln!("vfio-mig: this is the source of the page; to read it: vfio-mig man | man -l -")?;
    }
    Ok(())
}

pub fn run(args: &Args) -> Result<(), Error> {
    let Some(dir) = &args.out else {
        return print();
    };
    fs::create_dir_all(dir).context(text::shown_path(dir))?;
    for (name, page) in pages().context("the manual")? {
        let path = dir.join(name);
        fs::write(&path, page).context(text::shown_path(&path))?;
        outln!("{}", path.display())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn text(page: Vec<u8>) -> String {
        let text = String::from_utf8(page).unwrap();
        text.replace("\\-", "-").replace("\\*(Aq", "'")
    }

    #[test]
    fn the_manual_refers_to_no_other_page() {
        let page = text(whole().unwrap());
        assert!(!page.contains("(8)") && !page.contains("(1)"));
        assert_eq!(page.matches("\n.SH SYNOPSIS").count(), 1);
    }

    #[test]
    fn a_page_defines_its_apostrophe_once() {
        let pages = pages().unwrap();
        let all = pages.into_iter().map(|(_, page)| page);
        for page in all.chain([whole().unwrap()]) {
            let page = String::from_utf8(page).unwrap();
            assert!(
                page.starts_with(".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n"),
                "{page}"
            );
            assert_eq!(page.matches(".ds Aq").count(), 2);
            assert!(page.contains("\n.SH DESCRIPTION\n"), "{page}");
        }
    }

    #[test]
    fn the_page_of_the_tool_has_its_files_and_its_environment() {
        let pages = pages().unwrap();
        let (_, tool) = pages.iter().find(|(file, _)| file == "vfio-mig.8").unwrap();
        for page in [text(tool.clone()), text(whole().unwrap())] {
            for part in [
                "\n.SH FILES\n",
                "\n.SH ENVIRONMENT\n",
                "NO_COLOR",
                "sriov_numvfs",
            ] {
                assert_eq!(
                    page.matches(part).count(),
                    1 + usize::from(part == "NO_COLOR"),
                    "{part}"
                );
            }
        }
    }

    #[test]
    fn every_command_and_option_is_in_the_manual() {
        let whole = text(whole().unwrap());
        let pages = pages().unwrap();
        for command in command().get_subcommands() {
            let name = command.get_name();
            let section = format!(".SH \"{}\"", name.to_uppercase());
            let (_, section) = whole.split_once(&section).expect(name);
            let own = format!("vfio-mig-{name}.8");
            let (_, page) = pages.iter().find(|(file, _)| *file == own).expect(name);
            let page = text(page.clone());
            for option in command.get_arguments().filter_map(|arg| arg.get_long()) {
                let option = format!("--{option}");
                assert!(section.contains(&option), "{name} {option}");
                assert!(page.contains(&option), "{name} {option}");
            }
            for (_, line) in examples::of(name) {
                assert!(page.contains(line), "{line}");
            }
        }
    }

    #[test]
    fn pages_refer_to_pages_that_exist() {
        let pages = pages().unwrap();
        let files: BTreeSet<&str> = pages.iter().map(|(file, _)| file.as_str()).collect();
        let mut references = 0;
        for (file, page) in &pages {
            let page = text(page.clone());
            let (_, heading) = page.split_once(".TH ").unwrap();
            assert!(heading.lines().next().unwrap().contains(" 8 "), "{file}");
            assert!(page.contains(".SH EXAMPLES") || page.contains(".SH \"EXAMPLES\""));
            for line in page.lines().filter(|line| line.contains("(8)")) {
                let name = line.trim_start_matches("\\fB").replace("\\fR(8)", ".8");
                assert!(files.contains(name.as_str()), "{file}: {line}");
                references += 1;
            }
        }
        assert_eq!(references, 2 * (pages.len() - 1));
    }
}

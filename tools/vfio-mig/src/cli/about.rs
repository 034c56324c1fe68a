// SPDX-License-Identifier: GPL-2.0

//! `completions` and `man`, made from the command line's own definition.

use super::{
    out,
    Cli, //
};
use clap::CommandFactory;
use std::io::{
    self,
    Write, //
};
use vfio_mig::error::{
    Context,
    Error, //
};

/// Standard output gets the script from memory, since clap_complete panics if it cannot
/// write.
pub fn completions(shell: clap_complete::Shell) -> Result<(), Error> {
    let mut command = Cli::command();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "vfio-mig", &mut script);
    // clap_complete 4.6 writes the hyphen in two ways, and then bash completes no option of
    // a command (https://github.com/clap-rs/clap/issues/6421).
    let script = String::from_utf8_lossy(&script).replace("vfio__subcmd__mig", "vfio__mig");
    let mut to = out::stdout();
    to.write_all(script.as_bytes()).context("standard output")
}

/// The sections that say how to call a command.
fn usage(man: &clap_mangen::Man) -> io::Result<Vec<u8>> {
    let mut sections = Vec::new();
    man.render_synopsis_section(&mut sections)?;
    man.render_description_section(&mut sections)?;
    man.render_options_section(&mut sections)?;
    Ok(sections)
}

/// The page of the tool, and then one section for each command. clap_mangen's own list of
/// commands would refer to a page for each command, which there is not.
fn page() -> io::Result<Vec<u8>> {
    let mut command = Cli::command();
    command.build();
    let mut page = Vec::new();
    let man = clap_mangen::Man::new(command.clone());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    page.extend(usage(&man)?);
    for sub in command
        .get_subcommands()
        .filter(|sub| sub.get_name() != "help")
    {
        writeln!(page, ".SH \"{}\"", sub.get_name().to_uppercase())?;
        let sections = usage(&clap_mangen::Man::new(sub.clone()))?;
        // Parts of this section.
        let sections = String::from_utf8_lossy(&sections).replace("\n.SH ", "\n.SS ");
        page.extend(sections.as_bytes());
    }
    Ok(page)
}

pub fn man() -> Result<(), Error> {
    page()
        .and_then(|page| out::stdout().write_all(&page))
        .context("standard output")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_refers_to_no_other_page() {
        let page = String::from_utf8(page().unwrap()).unwrap();
        assert!(!page.contains("(1)"));
        assert_eq!(page.matches("\n.SH SYNOPSIS").count(), 1);
    }

    #[test]
    fn every_command_and_option_is_in_the_manual() {
        let page = String::from_utf8(page().unwrap()).unwrap();
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            assert!(
                page.contains(&format!(".SH \"{}\"", name.to_uppercase())),
                "{name}"
            );
            for option in command.get_arguments().filter_map(|arg| arg.get_long()) {
                let option = option.replace('-', "\\-");
                assert!(page.contains(&format!("\\-\\-{option}")), "{name} {option}");
            }
        }
    }
}

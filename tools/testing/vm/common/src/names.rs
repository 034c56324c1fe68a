// SPDX-License-Identifier: GPL-2.0

//! Names: choosing by them, and lists of them.

/// The names that `only` chooses: the one that it is, or else all that have it in them.
pub fn chosen<N: AsRef<str>>(names: impl IntoIterator<Item = N>, only: Option<&str>) -> Vec<N> {
    let mut names: Vec<N> = names.into_iter().collect();
    if let Some(only) = only {
        let exact = names.iter().any(|name| name.as_ref() == only);
        names.retain(|name| match exact {
            true => name.as_ref() == only,
            false => name.as_ref().contains(only),
        });
    }
    names
}

/// A name as the value of a kernel parameter: a space would end it.
pub fn parameter(name: &str) -> String {
    name.replace(' ', "-")
}

/// Names, in lines that fit into a terminal.
pub fn lines<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut lines: Vec<String> = Vec::new();
    for name in names {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + name.len() <= 80 => {
                line.push(' ');
                line.push_str(name);
            }
            _ => lines.push(format!("    {name}")),
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 4] = [
        "stock-chunks",
        "stock-chunks-grow",
        "intree-chunks",
        "LOAD of it",
    ];

    #[test]
    fn a_name_is_only_itself() {
        assert_eq!(chosen(NAMES, Some("stock-chunks")), ["stock-chunks"]);
    }

    #[test]
    fn a_part_of_names_is_all_of_them() {
        assert_eq!(chosen(NAMES, Some("chunks")), NAMES[..3]);
        assert_eq!(chosen(NAMES, Some("stock-chunks-")), ["stock-chunks-grow"]);
        assert_eq!(chosen(NAMES, None), NAMES);
        assert!(chosen(NAMES, Some("nosuch")).is_empty());
    }

    #[test]
    fn a_parameter_has_no_spaces() {
        let names = NAMES.map(parameter);
        assert_eq!(chosen(&names, Some("LOAD-of-it")), ["LOAD-of-it"]);
    }
}

// SPDX-License-Identifier: GPL-2.0

//! What is read of series, and what is wrong with some.

use crate::{
    manifest::{
        Manifest,
        Series, //
    },
    rewrite::Rules, //
};
use std::{
    fs,
    path::Path, //
};

fn series(name: &str, base: Option<&str>) -> Series {
    Series {
        name: name.to_string(),
        title: String::new(),
        cover: String::new(),
        prefix: "PATCH",
        base: base.map(str::to_string),
        patches: Vec::new(),
    }
}

#[test]
fn a_wrong_name_lists_the_right_ones() {
    let manifest = Manifest {
        series: vec![series("one", None), series("two", Some("one"))],
        rules: Rules::default(),
    };
    let names = |wanted: &[&str]| {
        let wanted: Vec<String> = wanted.iter().map(|name| name.to_string()).collect();
        let found = manifest.wanted(&wanted)?;
        Ok::<_, anyhow::Error>(found.iter().map(|one| one.name.clone()).collect::<Vec<_>>())
    };
    assert_eq!(names(&[]).unwrap(), ["one", "two"]);
    assert_eq!(names(&["two", "one"]).unwrap(), ["one", "two"]);
    assert_eq!(names(&["two"]).unwrap(), ["two"]);
    let said = names(&["two", "three"]).unwrap_err().to_string();
    assert!(said.ends_with("\"three\", but one, two"), "{said}");
    assert_eq!(manifest.chain("two").unwrap().len(), 2);
    assert!(manifest.chain("three").is_err());
}

/// Writes a series to a folder of `top`, with this in its `series.toml`.
fn write(top: &Path, name: &str, patches: &str) {
    let folder = top.join(name);
    fs::create_dir(&folder).unwrap();
    let licence = "# SPDX-License-Identifier: GPL-2.0\n";
    for name in ["cover.txt", "a.patch", "b.patch", "a.without"] {
        let text = format!("{licence}vfio: Do it\n\nSince it is right.\n");
        fs::write(folder.join(name), text).unwrap();
    }
    let text = format!("title = 'One'\ncover = 'cover.txt'\n{patches}");
    fs::write(folder.join("series.toml"), text).unwrap();
}

/// What reading a folder of series says.
fn read_said(top: &Path) -> String {
    match Manifest::read(top) {
        Ok(_) => String::new(),
        Err(err) => format!("{err:#}"),
    }
}

/// What reading says of a series with this text in its `series.toml`, and of files beside it.
fn said(patches: &str) -> String {
    let top = tempfile::tempdir().unwrap();
    write(top.path(), "one", patches);
    read_said(top.path())
}

#[test]
fn the_series_without_a_base_is_named() {
    for base in ["two", "nosuch"] {
        let top = tempfile::tempdir().unwrap();
        for (name, base) in [("one", "two"), ("two", base)] {
            let text = format!(
                "base = '{base}'\n\
                 [[patch]]\nmessage = 'a.patch'\nfiles = ['x/a.rs']\n\
                 [[patch]]\nmessage = 'b.patch'\nfiles = ['x/b.rs']\n\
                 without = 'a.without'\n"
            );
            write(top.path(), name, &text);
        }
        let said = read_said(top.path());
        assert!(
            said.starts_with(&format!("two applies to {base:?}")),
            "{said}"
        );
    }
}

#[test]
fn each_file_has_one_place() {
    let patch = |message: &str, without: &str, files: &str| {
        format!("[[patch]]\nmessage = '{message}'\n{without}files = [{files}]\n")
    };
    let [with, none] = ["without = 'a.without'\n", ""];
    let first = patch("a.patch", with, "'x/a.rs'");
    let cases = [
        (patch("b.patch", none, "'x/b.rs'"), ""),
        (patch("a.patch", none, "'x/b.rs'"), "names a.patch twice"),
        (patch("b.patch", with, "'x/b.rs'"), "names a.without twice"),
        (patch("nosuch.patch", none, "'x/b.rs'"), "nosuch.patch"),
        (patch("../b.patch", none, "'x/b.rs'"), "no file beside it"),
        (patch("", none, "'x/b.rs'"), "no file beside it"),
        (
            patch("b.patch", none, "'x/a.rs'"),
            "x/a.rs is in one/a and in one/b",
        ),
        (
            patch("b.patch", none, "'x/b.rs', 'x/b.rs'"),
            "in one/b and in one/b",
        ),
        (
            patch("b.patch", none, "{ from = 'y.rs', to = 'x/a.rs' }"),
            "in one/a",
        ),
        (patch("b.patch", none, "'../b.rs'"), "no path in a tree"),
        (patch("b.patch", none, "'/x/b.rs'"), "no path in a tree"),
        (
            patch("b.patch", none, "{ from = 'b.rs', to = 'x/../../b.rs' }"),
            "no path in",
        ),
        (String::new(), "b.patch is in no patch of"),
    ];
    for (second, wanted) in cases {
        let said = said(&format!("{first}{second}"));
        let is_wanted = said.contains(wanted) && (said.is_empty() == wanted.is_empty());
        assert!(is_wanted, "{second}: {said}");
    }
    let without = format!(
        "{}{}",
        patch("a.patch", none, "'x/a.rs'"),
        patch("b.patch", none, "'x/b.rs'")
    );
    assert!(said(&without).contains("a.without is in no patch of"));
}

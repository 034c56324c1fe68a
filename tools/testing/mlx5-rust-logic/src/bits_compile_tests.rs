// SPDX-License-Identifier: GPL-2.0

//! [`bits`](crate::bits): programs that must not compile do not, and rustc gives the right
//! reason.

use std::{
    fs,
    process::{
        Command,
        Output, //
    },
};

const BITS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../../drivers/vfio/pci/mlx5_rust/fw/bits.rs"
);

/// Compiles a program that has two layouts of 64 bits, and `main`.
///
/// Constants in generic functions are only evaluated when code is generated.
fn compile(name: &str, main: &str) -> Output {
    let dir = std::env::temp_dir().join(format!("bits-{}-{name}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let source = format!(
        "#![allow(dead_code, unused)]
         #[path = \"{BITS}\"] mod bits;
         use bits::{{Constant, Field, Part}};
         struct Layout([u8; 64]);
         struct Other([u8; 64]);
         fn main() {{ let mut buf = [0u8; 8]; {main} }}"
    );
    fs::write(dir.join("main.rs"), source).unwrap();
    let output = Command::new("rustc")
        .args(["--edition", "2021", "--emit", "obj", "-o"])
        .args([dir.join("main.o"), dir.join("main.rs")])
        .output()
        .expect("rustc does not run");
    fs::remove_dir_all(dir).unwrap();
    output
}

#[track_caller]
fn assert_refused(name: &str, main: &str, why: &str) {
    let output = compile(name, main);
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "this compiles: {main}");
    assert!(message.contains(why), "{main}: {message}");
}

#[test]
fn values_that_fit_compile() {
    let output = compile(
        "fits",
        "const WHOLE: Part<Layout, Layout> = Part::WHOLE;
         const FIELD: Field<Layout, 16> = WHOLE.field(Field::new(16));
         FIELD.set(&mut buf, 7u16);
         FIELD.set(&mut buf, true);
         FIELD.set(&mut buf, Constant::<0xffff>);",
    );
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{message}");
}

#[test]
fn a_field_of_another_layout_does_not_compile() {
    assert_refused(
        "layout",
        "const PART: Part<Layout, Layout> = Part::WHOLE;
         PART.field(Field::<Other, 16>::new(0));",
        "mismatched types",
    );
}

#[test]
fn a_constant_that_is_too_large_does_not_compile() {
    assert_refused(
        "constant",
        "Field::<Layout, 16>::new(0).set(&mut buf, Constant::<0x10000>);",
        "the value may not fit into the field",
    );
}

#[test]
fn a_type_that_is_too_large_does_not_compile() {
    assert_refused(
        "type",
        "Field::<Layout, 16>::new(0).set(&mut buf, 1u32);",
        "the value may not fit into the field",
    );
}

#[test]
fn a_field_across_words_or_outside_of_the_layout_does_not_compile() {
    for offset in [24, 56] {
        assert_refused(
            &format!("offset-{offset}"),
            &format!("const FIELD: Field<Layout, 16> = Field::new({offset});"),
            "panicked",
        );
    }
    assert_refused("width", "Field::<Layout, 40>::new(0);", "panicked");
}

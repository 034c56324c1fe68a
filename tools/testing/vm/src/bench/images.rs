// SPDX-License-Identifier: GPL-2.0

//! How many firmware commands it takes to load many images.

use super::firmware;
use crate::{
    machine::Outcome,
    tap::Test, //
};
use anyhow::{
    ensure,
    Context,
    Result, //
};
use serde_json::Value;

/// How many more our driver may send than the C driver: it has two buffers, and an mkey for
/// each.
const MORE: u64 = 2;

/// The commands that a driver has sent, and for how many images.
fn sent(data: &[Value], log: &str, driver: &str) -> Result<(u64, u64)> {
    let row = data
        .iter()
        .find(|row| row["loaded"].is_u64() && row["driver"] == driver)
        .with_context(|| format!("the machine has loaded nothing with the {driver} driver"))?;
    let vhca = row["vhca"].as_u64().context("no VHCA")?;
    let load = firmware::load(&mut firmware::commands(log), vhca)?;
    ensure!(
        row["loaded"] == load.images,
        "{} images of {}",
        load.images,
        row["loaded"]
    );
    Ok((load.commands, load.images))
}

fn judge(data: &[Value], log: &str) -> Result<Test> {
    let (c, images) = sent(data, log, "c")?;
    let (rust, others) = sent(data, log, "rust")?;
    ensure!(images == others, "{images} images, and {others}");
    Ok(Test {
        name: format!("{images} images: at most {MORE} firmware commands more than the C driver"),
        ok: rust <= c + MORE,
        skipped: None,
        diagnostics: vec![format!("{rust} commands, and {c} of the C driver")],
    })
}

/// The tests of a machine in which each driver has loaded the same images, before anything
/// else.
pub fn tests(outcome: &Outcome) -> Result<Vec<Test>> {
    Ok(vec![judge(&outcome.data, &firmware::log(outcome)?)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A log in which one image is loaded into each of two VHCAs, with some more commands
    /// for the second one.
    fn log(more: usize) -> String {
        let line = |name: &str, vhca: u64| {
            format!(
                "1 fn=0 op=0x1 {name} op_mod=0x1 vhca={vhca} status=0x0 syndrome=0x0 bytes=0 ns=1\n"
            )
        };
        let load = |vhca, more| {
            line("SUSPEND_VHCA", vhca)
                + &line("CREATE_MKEY", 0).repeat(1 + more)
                + &line("LOAD_VHCA_STATE", vhca)
                + &line("RESUME_VHCA", vhca)
        };
        load(1, 0) + &load(3, more)
    }

    #[test]
    fn two_commands_more_are_not_too_many() {
        let row = |driver: &str, vhca: u64, loaded: u64| json!({ "driver": driver, "vhca": vhca, "loaded": loaded });
        let data = [row("c", 1, 1), row("rust", 3, 1)];
        assert!(judge(&data, &log(2)).unwrap().ok);
        assert!(!judge(&data, &log(3)).unwrap().ok);
        assert!(judge(&[row("c", 1, 1), row("rust", 3, 2)], &log(0)).is_err());
        assert!(judge(&data[..1], &log(0)).is_err());
    }
}

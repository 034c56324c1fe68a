// SPDX-License-Identifier: GPL-2.0

//! common.sh: one run waits for another, says which, and does not outlive its make.

use std::{
    env,
    fs,
    io::{
        BufRead,
        BufReader, //
    },
    path::PathBuf,
    process::{
        self,
        Child,
        Command,
        Stdio, //
    },
    thread,
    time::Duration, //
};

const COMMON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/common.sh");

/// A cache of its own.
struct Cache(PathBuf);

impl Cache {
    fn new(name: &str) -> Self {
        let dir = env::temp_dir().join(format!("vm-test-{name}-{}", process::id()));
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    /// A shell that does this with common.sh.
    fn shell(&self, script: &str, make: Option<&Child>) -> Child {
        let mut command = Command::new("bash");
        command
            .args(["-c", &format!(". \"$0\"; {script}"), COMMON])
            .env("VFIO_MLX5_RUST_CACHE", &self.0)
            .env_remove("MAKELEVEL")
            .env_remove("VM_MAKE")
            .stderr(Stdio::piped());
        if let Some(make) = make {
            command.env("VM_MAKE", make.id().to_string());
        }
        command.spawn().unwrap()
    }

    fn lock(&self) -> String {
        fs::read_to_string(self.0.join("locks/it")).unwrap_or_default()
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The first line that it says.
fn said(child: &mut Child) -> String {
    let mut line = String::new();
    let stderr = child.stderr.as_mut().unwrap();
    BufReader::new(stderr).read_line(&mut line).unwrap();
    line
}

fn sleeper() -> Child {
    Command::new("sleep").arg("60").spawn().unwrap()
}

#[test]
fn a_run_that_waits_says_for_which_process() {
    let cache = Cache::new("waits");
    let mut first = cache.shell("alone it vm-test.sh one; exec sleep 60", None);
    while !cache.lock().contains("one") {
        thread::sleep(Duration::from_millis(10));
    }
    let mut second = cache.shell("alone it vm-test.sh two", None);
    let line = said(&mut second);
    let holder = format!("process {}, vm-test.sh one\n", first.id());
    assert!(
        line.ends_with(&holder),
        "{line:?} does not end with {holder:?}"
    );
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(second.wait().unwrap().success());
    assert!(cache.lock().contains("vm-test.sh two"));
}

#[test]
fn a_run_that_waits_ends_with_its_make() {
    let cache = Cache::new("ends");
    let mut first = cache.shell("alone it one; exec sleep 60", None);
    while !cache.lock().contains("one") {
        thread::sleep(Duration::from_millis(10));
    }
    let mut make = sleeper();
    let mut second = cache.shell("alone it two", Some(&make));
    assert!(said(&mut second).starts_with("waiting"));
    make.kill().unwrap();
    assert!(!second.wait().unwrap().success());
    assert!(cache.lock().contains("one"));
    make.wait().unwrap();
    first.kill().unwrap();
    first.wait().unwrap();
}

#[test]
fn the_end_of_make_is_noticed() {
    let cache = Cache::new("make");
    let mut make = sleeper();
    let ended = |make: Option<&Child>| {
        let shell = cache.shell("make_has_ended", make).wait();
        shell.unwrap().success()
    };
    assert!(!ended(None));
    assert!(!ended(Some(&make)));
    make.kill().unwrap();
    // Nobody has waited for it yet.
    while !ended(Some(&make)) {
        thread::sleep(Duration::from_millis(10));
    }
    make.wait().unwrap();
    assert!(ended(Some(&make)));
}

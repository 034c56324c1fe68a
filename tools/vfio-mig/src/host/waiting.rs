// SPDX-License-Identifier: GPL-2.0

//! Steps that the kernel takes its time for. It takes a device from its VFIO driver only once
//! nobody has that open, and no signal ends the wait.

use super::{
    plan::{
        Tell,
        Told, //
    },
    Host, //
};
use crate::{
    bdf::Bdf,
    interrupt, //
};
use nix::sys::signal::SigSet;
use std::{
    io,
    path::{
        Path,
        PathBuf, //
    },
    sync::mpsc::{
        self,
        RecvTimeoutError, //
    },
    thread,
    time::{
        Duration,
        Instant, //
    },
};

/// Time after which it is said what is waited for.
const PATIENCE: Duration = Duration::from_secs(3);
/// Interval at which signals are looked for.
const POLL: Duration = Duration::from_millis(100);

/// Those who may have functions open that are taken from their VFIO drivers.
pub struct Users<'a> {
    host: &'a Host,
    /// The functions, with their nodes. Those are gone as soon as the kernel waits.
    functions: Vec<(Bdf, Vec<PathBuf>)>,
}

impl<'a> Users<'a> {
    /// Those of the functions that have VFIO drivers.
    pub fn of(host: &'a Host, functions: &[Bdf]) -> Self {
        let vfio = functions.iter().filter(|function| host.is_vfio(**function));
        let functions = vfio.map(|function| (*function, host.nodes(*function)));
        Self {
            host,
            functions: functions.collect(),
        }
    }

    /// Why the kernel may be waiting.
    fn why(&self) -> String {
        let user = |(function, nodes): &(Bdf, Vec<PathBuf>)| {
            let by = self.host.user_of_nodes(*function, nodes)?;
            Some(format!("{by} has {function} open"))
        };
        let users: Vec<String> = self.functions.iter().filter_map(user).collect();
        let names: Vec<String> = self.functions.iter().map(|(f, _)| f.to_string()).collect();
        let names = names.join(", ");
        match (names.is_empty(), users.is_empty()) {
            (true, _) => {
                "the kernel takes its time for this step; its log (dmesg) may say why".into()
            }
            (false, false) => format!(
                "the kernel waits until nobody has {names} open: {}; end that, and this step goes \
                 on; no signal ends the wait",
                users.join(", ")
            ),
            (false, true) => format!(
                "the kernel waits until nobody has {names} open, and no process in /proc has it: \
                 look for one in another PID namespace, such as QEMU in a container; when that \
                 ends, this step goes on; no signal ends the wait"
            ),
        }
    }
}

/// Writes to a file of sysfs. Says why, if that takes long.
pub fn write(path: &Path, text: &str, users: &Users<'_>, tell: &mut Tell<'_>) -> io::Result<()> {
    let (done, ended) = mpsc::channel();
    let (path, text) = (path.to_path_buf(), text.to_string());
    thread::Builder::new().spawn(move || {
        // They are for the thread that looks for them.
        let _ = SigSet::all().thread_block();
        let _ = done.send(super::write(&path, &text));
    })?;
    let begin = Instant::now();
    let mut is_told = false;
    let mut was_interrupted = interrupt::check().is_err();
    loop {
        match ended.recv_timeout(POLL) {
            Ok(written) => return written,
            Err(RecvTimeoutError::Timeout) => (),
            Err(err @ RecvTimeoutError::Disconnected) => return Err(io::Error::other(err)),
        }
        // Nobody may be there to read it.
        if !is_told && begin.elapsed() >= PATIENCE {
            let _ = tell(Told::Waiting(&users.why()));
            is_told = true;
        }
        if !was_interrupted && interrupt::check().is_err() {
            let why = "a signal has come: the tool ends after this step, which the kernel does \
                       not give up";
            let _ = tell(Told::Waiting(why));
            was_interrupted = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::fake::{
            of,
            vf,
            Fake,
            VFS, //
        },
        *, //
    };
    use nix::{
        sys::stat::Mode,
        unistd::mkfifo, //
    };
    use std::fs;

    /// What is said while a step takes long, which ends once that was said. A FIFO is opened
    /// for writing when somebody reads it.
    fn said(name: &str, set_up: impl FnOnce(&Fake)) -> Vec<String> {
        let fake = Fake::new(name);
        set_up(&fake);
        let fifo = fake.at("slow");
        mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        let host = fake.host();
        let users = Users::of(&host, &[vf()]);
        // As soon as the kernel waits.
        let _ = fs::remove_dir_all(fake.at(&of(VFS[0], "vfio-dev")));
        let mut said = Vec::new();
        let mut reader = None;
        let mut tell = |told: Told<'_>| {
            said.push(match told {
                Told::Waiting(why) => why.to_string(),
                other => panic!("{other:?}"),
            });
            let fifo = fifo.clone();
            reader = Some(thread::spawn(move || fs::read_to_string(fifo).unwrap()));
            Ok(())
        };
        write(&fifo, "a step\n", &users, &mut tell).unwrap();
        assert_eq!(reader.unwrap().join().unwrap(), "a step\n");
        said
    }

    fn vfio(fake: &Fake) {
        fake.bind(VFS[0], "mlx5_vfio_pci_rust");
    }

    #[test]
    fn a_user_is_named() {
        let seen = |fake: &Fake| {
            vfio(fake);
            fake.opens("qemu", 41, "/dev/vfio/7");
        };
        let [why] = &said("slow-seen", seen)[..] else {
            panic!("not said once");
        };
        let words = "qemu (process 41) has 0000:01:00.2 open; end that";
        assert!(why.contains(words), "{why}");
    }

    #[test]
    fn a_user_that_is_not_seen_is_said_to_be_there() {
        let said = said("slow-unseen", vfio);
        let words = "no process in /proc has it: look for one in another PID namespace";
        assert!(said[0].contains(words), "{said:?}");
    }

    #[test]
    fn other_steps_are_slow_for_other_reasons() {
        let said = said("slow-other", |_| ());
        assert!(said[0].contains("its log (dmesg) may say why"), "{said:?}");
    }
}

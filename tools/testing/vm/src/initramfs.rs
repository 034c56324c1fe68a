// SPDX-License-Identifier: GPL-2.0

//! The initramfs of a test machine: a cpio archive (newc). It is not compressed: an
//! emulated processor would take longer to unpack it than it takes to read it.

use crate::{
    kernel::{
        self,
        Module, //
    },
    kunit,
    paths::Paths, //
};
use anyhow::{
    Context,
    Result, //
};
use std::{
    fs::{
        self,
        File, //
    },
    io::{
        self,
        BufWriter,
        Write, //
    },
    path::Path, //
};
use vm_common::{
    kernel::Kernel,
    scenarios::{
        Extra,
        Machine, //
    },
};

const DIRECTORY: u32 = 0o040_755;
const EXECUTABLE: u32 = 0o100_755;
const REGULAR: u32 = 0o100_644;

struct Archive<W: Write> {
    out: W,
    inode: u32,
}

impl<W: Write> Archive<W> {
    fn add(&mut self, name: &str, mode: u32, contents: &[u8]) -> io::Result<()> {
        self.inode += 1;
        let fields = [
            self.inode,
            mode,
            0,
            0,
            1,
            0,
            contents.len() as u32,
            0,
            0,
            0,
            0,
            name.len() as u32 + 1,
            0,
        ];
        write!(self.out, "070701")?;
        for field in fields {
            write!(self.out, "{field:08x}")?;
        }
        write!(self.out, "{name}\0")?;
        self.pad(110 + name.len() + 1)?;
        self.out.write_all(contents)?;
        self.pad(contents.len())
    }

    fn pad(&mut self, len: usize) -> io::Result<()> {
        self.out.write_all(&[0; 3][..(4 - len % 4) % 4])
    }

    fn finish(mut self) -> io::Result<W> {
        self.inode = 0;
        self.add("TRAILER!!!", 0, &[])?;
        Ok(self.out)
    }
}

fn create(path: &Path, dirs: &[&str]) -> Result<Archive<BufWriter<File>>> {
    let file = File::create(path).with_context(|| path.display().to_string())?;
    let mut archive = Archive {
        out: BufWriter::new(file),
        inode: 0,
    };
    for dir in dirs {
        archive.add(dir, DIRECTORY, &[])?;
    }
    Ok(archive)
}

fn add_program<W: Write>(
    archive: &mut Archive<W>,
    paths: &Paths,
    name: &str,
    to: &str,
) -> Result<()> {
    let from = paths.build.join(name);
    let contents = fs::read(&from).with_context(|| from.display().to_string())?;
    Ok(archive.add(to, EXECUTABLE, &contents)?)
}

fn file_name(module: &Module) -> String {
    format!("{}.ko", module.name)
}

fn add_modules<W: Write>(archive: &mut Archive<W>, modules: &[Module]) -> Result<()> {
    for module in modules {
        let to = format!("lib/modules/{}", file_name(module));
        archive.add(&to, REGULAR, &module.contents)?;
    }
    Ok(())
}

/// The modules that init loads.
fn add_list<W: Write>(archive: &mut Archive<W>, modules: &[Module]) -> Result<()> {
    let list: String = modules.iter().map(|m| file_name(m) + "\n").collect();
    Ok(archive.add("lib/modules.list", REGULAR, list.as_bytes())?)
}

/// Adds the files and folders below a folder.
fn add_below<W: Write>(archive: &mut Archive<W>, dir: &Path, to: &str) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let from = entry?.path();
        let name = from.file_name().unwrap_or_default().to_string_lossy();
        let to = format!("{to}{name}");
        if from.is_dir() {
            // If there is one already, it stays.
            archive.add(&to, DIRECTORY, &[])?;
            add_below(archive, &from, &format!("{to}/"))?;
        } else {
            let contents = fs::read(&from).with_context(|| from.display().to_string())?;
            archive.add(&to, EXECUTABLE, &contents)?;
        }
    }
    Ok(())
}

/// Writes the initramfs for a kernel to `path`.
pub fn write(paths: &Paths, kernel: Kernel, machine: &Machine, path: &Path) -> Result<()> {
    let dirs = [
        "bin",
        "dev",
        "lib",
        "lib/expectations",
        "lib/modules",
        "proc",
        "sys",
        "tmp",
    ];
    let mut archive = create(path, &dirs)?;
    add_program(&mut archive, paths, "vm-guest", "init")?;
    add_program(&mut archive, paths, "vfio-mig", "bin/vfio-mig")?;
    let expectations = paths.top.join("tools/vfio-mig/expectations");
    for entry in fs::read_dir(&expectations).with_context(|| expectations.display().to_string())? {
        let from = entry?.path();
        let name = from.file_name().unwrap_or_default().to_string_lossy();
        let contents = fs::read(&from).with_context(|| from.display().to_string())?;
        archive.add(&format!("lib/expectations/{name}"), REGULAR, &contents)?;
    }
    if machine.extras.contains(&Extra::Rdma) {
        add_below(&mut archive, &paths.rdma, "")?;
    }
    if machine.extras.contains(&Extra::Network) {
        add_below(&mut archive, &paths.net_tools, "")?;
    }
    if machine.extras.contains(&Extra::Packages) {
        add_below(&mut archive, &paths.build.join("packages"), "")?;
    }
    let (modules, more) = kernel::modules(kernel, paths, machine)?;
    add_modules(&mut archive, &modules)?;
    add_modules(&mut archive, &more)?;
    add_list(&mut archive, &modules)?;
    if machine.kunit {
        let list = kunit::list(paths, kernel)?;
        archive.add("lib/kunit.list", REGULAR, list.as_bytes())?;
    }
    archive.finish()?.flush()?;
    Ok(())
}

/// Writes the initramfs of a machine in the machine to `path`.
pub fn write_inner(paths: &Paths, kernel: Kernel, machine: &Machine, path: &Path) -> Result<()> {
    let mut archive = create(path, &["dev", "lib", "lib/modules", "proc", "sys", "tmp"])?;
    add_program(&mut archive, paths, "vm-guest", "init")?;
    let modules = kernel::inner_modules(kernel, paths, machine)?;
    add_modules(&mut archive, &modules)?;
    add_list(&mut archive, &modules)?;
    archive.finish()?.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_the_archive_ends() {
        let mut archive = Archive {
            out: Vec::new(),
            inode: 0,
        };
        for len in 0..9 {
            archive.add("some/name", REGULAR, &vec![b'x'; len]).unwrap();
            assert_eq!(archive.out.len() % 4, 0);
        }
        let bytes = archive.finish().unwrap();
        assert!(bytes.starts_with(b"070701"));
        assert!(bytes.windows(10).any(|w| w == b"TRAILER!!!"));
    }
}

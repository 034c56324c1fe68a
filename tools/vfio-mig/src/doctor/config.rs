// SPDX-License-Identifier: GPL-2.0

//! The configuration of the running kernel.

use crate::host::Host;
use flate2::read::GzDecoder;
use std::{
    fs,
    io::Read,
    path::PathBuf, //
};

/// Longest configuration that is read, in bytes.
const MOST: u64 = 16 << 20;

/// The configuration.
pub struct Config {
    /// Where it was found.
    pub path: Option<PathBuf>,
    text: String,
}

fn read(host: &Host, path: &PathBuf) -> Option<String> {
    let file = fs::File::open(host.at(path)).ok()?;
    let mut text = String::new();
    let read = match path.extension().is_some_and(|kind| kind == "gz") {
        true => GzDecoder::new(file).take(MOST).read_to_string(&mut text),
        false => file.take(MOST).read_to_string(&mut text),
    };
    read.ok().map(|_| text)
}

impl Config {
    /// That of a host.
    pub fn of(host: &Host) -> Self {
        let release = host.read("/proc/sys/kernel/osrelease").unwrap_or_default();
        let paths = [
            PathBuf::from("/proc/config.gz"),
            PathBuf::from(format!("/boot/config-{release}")),
            PathBuf::from(format!("/lib/modules/{release}/config")),
            PathBuf::from(format!("/lib/modules/{release}/build/.config")),
        ];
        let found = paths
            .iter()
            .find_map(|path| Some((path.clone(), read(host, path)?)));
        let (path, text) = found.unzip();
        Self {
            path,
            text: text.unwrap_or_default(),
        }
    }

    /// Whether it is known.
    pub fn is_known(&self) -> bool {
        self.path.is_some()
    }

    /// Whether an option is built in, or a module.
    pub fn has(&self, option: &str) -> bool {
        self.text.lines().any(|line| {
            let value = line
                .strip_prefix(option)
                .and_then(|rest| rest.strip_prefix('='));
            matches!(value, Some("y" | "m"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Fake;
    use flate2::{
        write::GzEncoder,
        Compression, //
    };
    use std::io::Write;

    #[test]
    fn the_configuration_is_found_wherever_it_is() {
        let fake = Fake::new("config");
        fake.write("proc/sys/kernel/osrelease", "7.2.12-test\n");
        let host = fake.host();
        assert!(!Config::of(&host).is_known());
        let text = "CONFIG_VFIO=m\n# CONFIG_IOMMUFD is not set\nCONFIG_VFIO_PCI_CORE=y\n";
        fake.write("boot/config-7.2.12-test", text);
        let plain = Config::of(&host);
        assert!(plain.is_known());
        for option in ["CONFIG_VFIO", "CONFIG_VFIO_PCI_CORE"] {
            assert!(plain.has(option), "{option}");
        }
        for option in ["CONFIG_IOMMUFD", "CONFIG_VFIO_PCI", "CONFIG"] {
            assert!(!plain.has(option), "{option}");
        }
        // The kernel itself knows best.
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(b"CONFIG_IOMMUFD=m\n").unwrap();
        let path = host.at("/proc/config.gz");
        fs::write(&path, packed.finish().unwrap()).unwrap();
        let own = Config::of(&host);
        assert!(own.has("CONFIG_IOMMUFD") && !own.has("CONFIG_VFIO"));
        // What is no gzip is passed over.
        fs::write(&path, "no gzip").unwrap();
        assert!(Config::of(&host).has("CONFIG_VFIO"));
    }
}

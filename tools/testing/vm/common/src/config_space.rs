// SPDX-License-Identifier: GPL-2.0

//! What `lspci -vvv` shows of a function's BARs and capabilities: of real adapters, and of the
//! emulated one.

/// The two kinds of function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A PF.
    Pf,
    /// One of its VFs.
    Vf,
}

/// Public lspci output of a ConnectX-6 Dx (101d) with two ports, PF 0. The ids of the last
/// four capabilities were not kept.
const PF: &[&str] = &[
    "BAR 0: 64-bit prefetchable, 32 MiB",
    "expansion ROM: 1 MiB",
    "[60] PCIe v2, type 0",
    "     MaxPayload 512, ExtTag+, FLReset+",
    "     10BitTagComp+, AtomicOpsCap 32+ 64+ 128+",
    "[48] VPD",
    "[9c] MSI-X: 64 vectors, table at BAR 0 + 0x2000, PBA at BAR 0 + 0x3000",
    "[c0] vendor-specific: length 0x18",
    "[40] power management v3",
    "[100] AER",
    "[150] ARI",
    "[180] SR-IOV: VF offset 2, stride 1, device 101e, page sizes 0x7ff",
    "      VF BAR 0: 64-bit prefetchable",
    "[1c0] secondary PCIe",
    "[230] ACS",
    "[320] of the link",
    "[370] of the link",
    "[3b0] of the link",
    "[420] of the link",
];

/// Public lspci output of a VF (101e) that is bound to mlx5_vfio_pci.
const VF: &[&str] = &[
    "BAR 0: 64-bit prefetchable, 1 MiB",
    "[60] PCIe v2, type 0",
    "     ExtTag+, RBE+, FLReset+, MaxReadReq 128",
    "[9c] MSI-X: 12 vectors, table at BAR 0 + 0x2000, PBA at BAR 0 + 0x3000",
    "[100] vendor-specific: id 0, revision 0, length 0xc",
    "[150] ARI",
];

/// What is not as on an adapter.
struct Difference {
    kind: Kind,
    hardware: Option<&'static str>,
    model: Option<&'static str>,
    /// Why. The documentation says the same.
    reason: &'static str,
}

/// Why capabilities of the link are missing.
const NO_LINK: &str = "They describe a physical link, which the model does not have.";

const fn without(hardware: &'static str, reason: &'static str) -> Difference {
    Difference {
        kind: Kind::Pf,
        hardware: Some(hardware),
        model: None,
        reason,
    }
}

/// All differences.
const DIFFERENCES: &[Difference] = &[
    without("[320] of the link", NO_LINK),
    without("[370] of the link", NO_LINK),
    without("[3b0] of the link", NO_LINK),
    without("[420] of the link", NO_LINK),
    Difference {
        kind: Kind::Pf,
        hardware: None,
        model: Some("[f00] vendor-specific: id 0x4d4c, revision 1, length 0x40"),
        reason: "The control capability, through which tests arm faults.",
    },
];

/// A BAR, or the expansion ROM, as the file `resource` in sysfs has it.
#[derive(Clone, Copy, Debug)]
struct Resource {
    size: u64,
    flags: u64,
}

/// `IORESOURCE_PREFETCH`
const PREFETCHABLE: u64 = 0x2000;
/// `IORESOURCE_MEM_64`
const WIDE: u64 = 0x10_0000;
/// BARs of a function; what comes then is the ROM.
const BARS: usize = 6;

impl Resource {
    fn parse(line: &str) -> Option<Self> {
        let number = |word: &str| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok();
        let mut words = line.split_whitespace().map(number);
        let [start, end, flags] = [words.next()??, words.next()??, words.next()??];
        Some(Self {
            size: if flags == 0 { 0 } else { end - start + 1 },
            flags,
        })
    }
}

fn mib(size: u64) -> String {
    match size % (1 << 20) {
        0 => format!("{} MiB", size >> 20),
        _ => format!("{size:#x} bytes"),
    }
}

fn memory_type(wide: bool, prefetchable: bool) -> String {
    let bits = if wide { "64-bit" } else { "32-bit" };
    let not = if prefetchable { "" } else { "non-" };
    format!("{bits} {not}prefetchable")
}

fn sign(is: bool) -> char {
    if is {
        '+'
    } else {
        '-'
    }
}

/// A function's configuration space. What is beyond its end reads as 0.
struct Config<'a>(&'a [u8]);

impl Config<'_> {
    fn byte(&self, at: usize) -> u8 {
        self.0.get(at).copied().unwrap_or(0)
    }

    fn word(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.byte(at), self.byte(at + 1)])
    }

    fn long(&self, at: usize) -> u32 {
        u32::from(self.word(at)) | (u32::from(self.word(at + 2)) << 16)
    }

    /// Lines of a capability below 0x100.
    fn capability(&self, kind: Kind, at: usize) -> Vec<String> {
        let what = match self.byte(at) {
            0x01 => format!("power management v{}", self.word(at + 2) & 7),
            0x03 => "VPD".to_string(),
            0x09 => format!("vendor-specific: length {:#x}", self.byte(at + 2)),
            0x10 => return self.express(kind, at),
            0x11 => {
                let place = |at| {
                    let value = self.long(at);
                    format!("BAR {} + {:#x}", value & 7, value & !7)
                };
                format!(
                    "MSI-X: {} vectors, table at {}, PBA at {}",
                    (self.word(at + 2) & 0x7ff) + 1,
                    place(at + 4),
                    place(at + 8)
                )
            }
            id => format!("capability {id:#x}"),
        };
        vec![format!("[{at:x}] {what}")]
    }

    fn express(&self, kind: Kind, at: usize) -> Vec<String> {
        let flags = self.word(at + 2);
        let (capabilities, control) = (self.long(at + 4), self.word(at + 8));
        let capabilities2 = self.long(at + 0x24);
        let has = |bit: u32| sign((capabilities >> bit) & 1 == 1);
        let has2 = |bit: u32| sign((capabilities2 >> bit) & 1 == 1);
        let mut lines = vec![format!(
            "[{at:x}] PCIe v{}, type {}",
            flags & 0xf,
            (flags >> 4) & 0xf
        )];
        match kind {
            Kind::Pf => {
                lines.push(format!(
                    "     MaxPayload {}, ExtTag{}, FLReset{}",
                    128 << (capabilities & 7),
                    has(5),
                    has(28)
                ));
                lines.push(format!(
                    "     10BitTagComp{}, AtomicOpsCap 32{} 64{} 128{}",
                    has2(16),
                    has2(7),
                    has2(8),
                    has2(9)
                ));
            }
            Kind::Vf => lines.push(format!(
                "     ExtTag{}, RBE{}, FLReset{}, MaxReadReq {}",
                has(5),
                has(15),
                has(28),
                128 << ((control >> 12) & 7)
            )),
        }
        lines
    }

    /// Lines of a capability from 0x100 on.
    fn extended(&self, at: usize) -> Vec<String> {
        let what = match self.word(at) {
            0x01 => "AER".to_string(),
            0x0b => {
                let header = self.long(at + 4);
                let id = match header & 0xffff {
                    0 => "0".to_string(),
                    id => format!("{id:#x}"),
                };
                format!(
                    "vendor-specific: id {id}, revision {}, length {:#x}",
                    (header >> 16) & 0xf,
                    header >> 20
                )
            }
            0x0d => "ACS".to_string(),
            0x0e => "ARI".to_string(),
            0x10 => {
                let bar = self.long(at + 0x24);
                return vec![
                    format!(
                        "[{at:x}] SR-IOV: VF offset {}, stride {}, device {:04x}, page sizes {:#x}",
                        self.word(at + 0x14),
                        self.word(at + 0x16),
                        self.word(at + 0x1a),
                        self.long(at + 0x1c)
                    ),
                    format!(
                        "      VF BAR 0: {}",
                        memory_type(bar & 6 == 4, bar & 8 == 8)
                    ),
                ];
            }
            0x19 => "secondary PCIe".to_string(),
            id => format!("extended capability {id:#x}"),
        };
        vec![format!("[{at:x}] {what}")]
    }
}

/// The lines of a function, from its files `config` and `resource` in sysfs.
pub fn lines(kind: Kind, config: &[u8], resource: &str) -> Vec<String> {
    // A list that is broken must end.
    const MOST: usize = 64;

    let mut lines = Vec::new();
    let resources = resource.lines().filter_map(Resource::parse);
    for (number, found) in resources.take(BARS + 1).enumerate() {
        match number {
            _ if found.size == 0 => (),
            BARS => lines.push(format!("expansion ROM: {}", mib(found.size))),
            _ => lines.push(format!(
                "BAR {number}: {}, {}",
                memory_type(found.flags & WIDE > 0, found.flags & PREFETCHABLE > 0),
                mib(found.size)
            )),
        }
    }
    let config = Config(config);
    let next = |at: usize| usize::from(config.byte(at) & !3);
    let mut at = next(0x34);
    for _ in 0..MOST {
        if at == 0 {
            break;
        }
        lines.extend(config.capability(kind, at));
        at = next(at + 1);
    }
    at = 0x100;
    for _ in 0..MOST {
        if at == 0 || config.long(at) == 0 {
            break;
        }
        lines.extend(config.extended(at));
        at = usize::from(config.word(at + 2) >> 4);
    }
    lines
}

/// The lines of a real one.
fn of_hardware(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Pf => PF,
        Kind::Vf => VF,
    }
}

fn differences(kind: Kind) -> impl Iterator<Item = &'static Difference> {
    DIFFERENCES.iter().filter(move |one| one.kind == kind)
}

/// What the emulated adapter is to show: what a real one does, but for the differences.
fn expected(kind: Kind) -> Vec<&'static str> {
    let mut lines = Vec::new();
    for line in of_hardware(kind) {
        match differences(kind).find(|one| one.hardware == Some(line)) {
            Some(difference) => lines.extend(difference.model),
            None => lines.push(*line),
        }
    }
    let more = differences(kind).filter(|one| one.hardware.is_none());
    lines.extend(more.filter_map(|one| one.model));
    lines
}

/// Compares the lines of a function of the emulated adapter with those of a real one. Returns
/// what differs and should not.
pub fn compare(kind: Kind, found: &[String]) -> Vec<String> {
    let expected = expected(kind);
    let missing = expected
        .iter()
        .filter(|line| !found.iter().any(|other| other == *line))
        .map(|line| format!("missing: {line}"));
    let extra = found
        .iter()
        .filter(|line| !expected.contains(&line.as_str()))
        .map(|line| {
            let listed = differences(kind).find(|one| one.hardware == Some(line.as_str()));
            match listed {
                Some(listed) => format!("no difference any more: {line} ({})", listed.reason),
                None => format!("not of an adapter: {line}"),
            }
        });
    let mut wrong: Vec<String> = missing.chain(extra).collect();
    if wrong.is_empty() && found != expected {
        wrong.push(format!("in another order: {found:?}"));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../../Documentation/dev-tools/vfio-rust/mlx5-emu.rst"
    ));

    fn put(config: &mut [u8], at: usize, values: &[u32]) {
        for (i, value) in values.iter().enumerate() {
            config[at + i * 4..][..4].copy_from_slice(&value.to_le_bytes());
        }
    }

    fn vf() -> Vec<u8> {
        let mut config = vec![0; 0x1000];
        config[0x34] = 0x60;
        put(&mut config, 0x60, &[0x0002_9c10, 0x1000_8022]);
        put(&mut config, 0x9c, &[0x000b_0011, 0x2000, 0x3000]);
        put(&mut config, 0x100, &[0x1501_000b, 0x00c0_0000]);
        put(&mut config, 0x150, &[0x0001_000e]);
        config
    }

    const VF_RESOURCES: &str = "0x00000000fe000000 0x00000000fe0fffff 0x000000000014220c\n\
                                0x0000000000000000 0x0000000000000000 0x0000000000000000\n";

    #[test]
    fn a_vf_is_read() {
        let lines = lines(Kind::Vf, &vf(), VF_RESOURCES);
        assert_eq!(lines, VF);
        assert!(compare(Kind::Vf, &lines).is_empty());
    }

    #[test]
    fn what_is_wrong_is_found() {
        let mut config = vf();
        config[0x9e] = 3;
        let found = lines(Kind::Vf, &config, VF_RESOURCES);
        assert_eq!(compare(Kind::Vf, &found).len(), 2);
        let mut found = lines(Kind::Vf, &vf(), VF_RESOURCES);
        found.reverse();
        assert_eq!(compare(Kind::Vf, &found).len(), 1);
    }

    #[test]
    fn a_difference_that_is_none_any_more_is_found() {
        let mut found: Vec<String> = expected(Kind::Pf)
            .iter()
            .map(|line| line.to_string())
            .collect();
        assert!(compare(Kind::Pf, &found).is_empty());
        found.push("[320] of the link".to_string());
        let wrong = compare(Kind::Pf, &found);
        assert_eq!(wrong.len(), 1);
        assert!(wrong[0].contains(NO_LINK), "{wrong:?}");
    }

    #[test]
    fn a_list_without_an_end_ends() {
        let mut config = vf();
        config[0x9d] = 0x60;
        put(&mut config, 0x150, &[0x1001_000e]);
        assert!(lines(Kind::Vf, &config, "").len() > 64);
    }

    #[test]
    fn a_difference_is_one_of_the_adapters() {
        for Difference { kind, hardware, .. } in DIFFERENCES {
            let of = of_hardware(*kind);
            assert!(
                hardware.is_none_or(|line| of.contains(&line)),
                "{hardware:?}"
            );
        }
    }

    #[test]
    fn the_page_has_each_difference() {
        let page: Vec<&str> = PAGE.split_whitespace().collect();
        let page = page.join(" ");
        for difference in DIFFERENCES {
            let line = difference.hardware.or(difference.model).unwrap();
            let (offset, _) = line[1..].split_once(']').unwrap();
            assert!(page.contains(&format!("0x{offset}")), "{line}");
            assert!(page.contains(difference.reason), "{line}");
        }
    }
}

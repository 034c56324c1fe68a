// SPDX-License-Identifier: GPL-2.0

//! The kernels: their images and modules.

use crate::{
    kunit,
    paths::Paths, //
};
use anyhow::{
    bail,
    Context,
    Result, //
};
use std::{
    collections::BTreeMap,
    fs,
    path::{
        Path,
        PathBuf, //
    },
    process::Command, //
};
use vm_common::{
    drivers,
    kernel::Kernel,
    scenarios::{
        Extra,
        Machine, //
    },
};

/// What the drivers stand on, in any order; dependencies come by themselves.
const MODULES: &[&str] = &["mlx5_core", "vfio_iommu_type1", "vfio_pci_core", "iommufd"];
/// Drivers of the kernel, loaded before ours.
const DRIVERS: &[&str] = &["mlx5_vfio_pci", "mtty"];
/// What only exists in the in-tree kernels.
const ONLY_INTREE: &[&str] = &["iommufd", "mtty"];

/// What only some scenarios load.
const LATER: &[&str] = &["vfio_pci", drivers::HOOKS];
/// What injects errors of PCI Express, for scenarios that load it. The in-tree kernels do not
/// have it.
const STOCK_LATER: &[&str] = &["aer_inject"];
/// For machines with a network. The in-tree kernels have it in their images.
const NETWORK: &str = "8021q";
/// For machines in the machine: its hardware decides which one loads.
const KVM: &[&str] = &["kvm_amd", "kvm_intel"];
/// What a host of such machines needs, and only the stock kernel has as modules: the host's
/// files, and what KVM's modules depend on.
const STOCK_HOST: &[&str] = &["9p", "9pnet_virtio", "kvm", "ccp"];
/// What such a machine needs: its program uses VFs, or its kernel does.
const INNER: &[&str] = &["iommufd", "vfio_pci"];
const INNER_NETWORK: &[&str] = &["mlx5_core"];

/// Whether a module comes with a series of patches.
fn is_ours(name: &str) -> bool {
    name == drivers::HOOKS || drivers::ours().any(|ours| ours == name)
}

/// A module: its name, and its uncompressed contents.
pub struct Module {
    /// As the kernel names it.
    pub name: String,
    /// The .ko file.
    pub contents: Vec<u8>,
}

fn module_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split('.').next().unwrap_or_default().replace('-', "_")
}

fn read_module(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_some_and(|e| e == "xz") {
        let output = Command::new("xz").arg("-dc").arg(path).output()?;
        if !output.status.success() {
            bail!("{}: xz failed", path.display());
        }
        return Ok(output.stdout);
    }
    fs::read(path).with_context(|| path.display().to_string())
}

/// All modules below a folder, by name.
fn find_modules(dir: &Path, found: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() && !path.is_symlink() {
            find_modules(&path, found)?;
        } else {
            let name = path.to_string_lossy();
            if name.ends_with(".ko") || name.ends_with(".ko.xz") {
                found.insert(module_name(&path), path);
            }
        }
    }
    Ok(())
}

/// What a module says it depends on.
fn depends(contents: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = contents.windows(KEY.len()).position(|w| w == KEY) else {
        return Vec::new();
    };
    let value = &contents[at + KEY.len()..];
    let end = value.iter().position(|b| *b == 0).unwrap_or(0);
    String::from_utf8_lossy(&value[..end])
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

fn add(name: &str, files: &BTreeMap<String, PathBuf>, list: &mut Vec<Module>) -> Result<()> {
    if list.iter().any(|module| module.name == name) {
        return Ok(());
    }
    let path = files
        .get(name)
        .with_context(|| format!("no module {name}"))?;
    let contents = read_module(path)?;
    for dependency in depends(&contents) {
        add(&dependency, files, list)?;
    }
    list.push(Module {
        name: name.to_string(),
        contents,
    });
    Ok(())
}

/// The image of a kernel among its objects.
const BZIMAGE: &str = "arch/x86/boot/bzImage";

/// The image of a kernel.
pub fn image(kernel: Kernel, paths: &Paths) -> PathBuf {
    match kernel {
        Kernel::Stock => paths
            .stock
            .join("usr/lib/modules")
            .join(&paths.stock_release)
            .join("vmlinuz"),
        Kernel::Intree | Kernel::Fixed => paths.intree.join(BZIMAGE),
        Kernel::Bare => paths.bare.join(BZIMAGE),
        Kernel::Builtin => paths.builtin.join(BZIMAGE),
        Kernel::Debug => paths.debug.join(BZIMAGE),
    }
}

/// The modules of a kernel, by name.
fn files(kernel: Kernel, paths: &Paths) -> Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    match kernel {
        Kernel::Stock => {
            let dir = paths
                .stock
                .join("usr/lib/modules")
                .join(&paths.stock_release);
            find_modules(&dir.join("kernel"), &mut files)?;
            find_modules(&paths.stock_c_driver, &mut files)?;
            find_modules(&paths.build.join("stock"), &mut files)?;
        }
        Kernel::Intree => find_modules(&paths.intree, &mut files)?,
        Kernel::Bare => find_modules(&paths.bare, &mut files)?,
        Kernel::Builtin => find_modules(&paths.builtin, &mut files)?,
        Kernel::Debug => find_modules(&paths.debug, &mut files)?,
        Kernel::Fixed => {
            find_modules(&paths.intree, &mut files)?;
            // These take the place of the others.
            find_modules(&paths.fixed, &mut files)?;
        }
    }
    if let Some(modules) = &paths.modules {
        find_modules(&modules.join(kernel.name()), &mut files)?;
    }
    Ok(files)
}

/// The modules that the image of a kernel has in it. Of the stock kernel, none is asked for.
fn built_in(kernel: Kernel, paths: &Paths) -> Result<Vec<String>> {
    if kernel != Kernel::Builtin {
        return Ok(Vec::new());
    }
    let path = paths.builtin.join("modules.builtin");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(text
        .lines()
        .map(|line| module_name(Path::new(line)))
        .collect())
}

/// The modules of a test machine, in the order in which they load; then those
/// that it may load itself.
pub fn modules(
    kernel: Kernel,
    paths: &Paths,
    machine: &Machine,
) -> Result<(Vec<Module>, Vec<Module>)> {
    // There, modprobe loads them, from what a package has installed.
    if machine.extras.contains(&Extra::Packages) {
        return Ok((Vec::new(), Vec::new()));
    }
    let mut files = files(kernel, paths)?;
    // What reports dirty pages, or tests itself, takes the place of what does not.
    if machine.bitmaps && kernel == Kernel::Stock {
        find_modules(&paths.bitmaps, &mut files)?;
        find_modules(&paths.build.join("bitmaps"), &mut files)?;
    }
    if let (true, Some(folder)) = (machine.kunit, kunit::folder(kernel)) {
        find_modules(&paths.build.join(folder), &mut files)?;
    }
    let built_in = built_in(kernel, paths)?;
    let here = |name: &&str| {
        let stock = kernel == Kernel::Stock && ONLY_INTREE.contains(name);
        let later = paths.tip.is_some() && is_ours(name) && !files.contains_key(*name);
        !stock && !later && !built_in.iter().any(|one| one == name)
    };
    let mut list = Vec::new();
    let is_host = machine.extras.contains(&Extra::Guest);
    let of_host = (kernel == Kernel::Stock && is_host).then_some(STOCK_HOST);
    let all = MODULES
        .iter()
        .chain(DRIVERS)
        .chain(of_host.into_iter().flatten())
        .copied()
        .chain(drivers::ours());
    let network = kernel == Kernel::Stock && machine.extras.contains(&Extra::Network);
    let all = all.chain(network.then_some(NETWORK));
    for name in all.filter(&here) {
        add(name, &files, &mut list)?;
    }
    let more = list.len();
    let kvm = (kernel != Kernel::Stock || is_host).then_some(KVM);
    let examples = machine.kunit.then_some(drivers::EXAMPLES);
    let of_stock = (kernel == Kernel::Stock).then_some(STOCK_LATER);
    let later = LATER.iter().chain(of_stock.into_iter().flatten());
    let later = later.chain(kvm.into_iter().flatten()).copied();
    for name in later.chain(examples).filter(&here) {
        add(name, &files, &mut list)?;
    }
    let more = list.split_off(more);
    Ok((list, more))
}

/// The drivers that are compared, and the module of our abstractions.
const COMPARED: &[&str] = &["vfio_rust", "mlx5_vfio_pci_rust", "mlx5_vfio_pci"];

/// A driver's module, and that of our abstractions if it needs it.
pub fn compared_modules(kernel: Kernel, paths: &Paths, driver: &str) -> Result<Vec<Module>> {
    let mut list = Vec::new();
    add(driver, &files(kernel, paths)?, &mut list)?;
    list.retain(|module| COMPARED.contains(&module.name.as_str()));
    Ok(list)
}

/// The modules of a machine in the machine, in the order in which they load.
pub fn inner_modules(kernel: Kernel, paths: &Paths, machine: &Machine) -> Result<Vec<Module>> {
    let files = files(kernel, paths)?;
    let mut list = Vec::new();
    let names = match machine.extras.contains(&Extra::Network) {
        true => INNER_NETWORK,
        false => INNER,
    };
    for name in names {
        add(name, &files, &mut list)?;
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_from_a_module() {
        let contents = b"junk\0license=GPL\0depends=vfio-pci-core,mlx5_core\0name=x\0";
        assert_eq!(depends(contents), ["vfio_pci_core", "mlx5_core"]);
        assert!(depends(b"\0depends=\0").is_empty());
        assert!(depends(b"nothing").is_empty());
    }

    #[test]
    fn names_are_as_the_kernel_has_them() {
        assert_eq!(
            module_name(Path::new("/a/vfio-pci-core.ko.xz")),
            "vfio_pci_core"
        );
    }
}

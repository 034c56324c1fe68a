// SPDX-License-Identifier: GPL-2.0

//! Where things are: the caller, a script that made them, says so.

use clap::Args;
use std::path::{
    Path,
    PathBuf, //
};

/// Files and folders.
#[derive(Args, Clone, Debug)]
pub struct Paths {
    /// The checkout.
    #[arg(long, env = "VM_TOP")]
    pub top: PathBuf,
    /// The checkout, by a path without blanks and the like.
    #[arg(long, env = "VM_PLAIN_TOP")]
    pub plain_top: PathBuf,
    /// The commit that is checked out.
    #[arg(long, env = "VM_COMMIT", default_value = "unknown")]
    pub commit: String,
    /// Tells what is tested apart: drivers, headers and samples.
    #[arg(long, env = "VM_CODE", default_value = "unknown")]
    pub code: String,
    /// Tells what tests apart: tools, and all that is below them.
    #[arg(long, env = "VM_TESTS", default_value = "unknown")]
    pub tests: String,
    /// What build.sh has built.
    #[arg(long, env = "VM_BUILD")]
    pub build: PathBuf,
    /// The unpacked stock kernel.
    #[arg(long, env = "VM_STOCK")]
    pub stock: PathBuf,
    /// Release of the stock kernel.
    #[arg(long, env = "VM_STOCK_RELEASE")]
    pub stock_release: String,
    /// The C driver for the stock kernel.
    #[arg(long, env = "VM_STOCK_C_DRIVER")]
    pub stock_c_driver: PathBuf,
    /// For the stock kernel: VFIO with dirty bitmaps, and the C driver for that.
    #[arg(long, env = "VM_BITMAPS")]
    pub bitmaps: PathBuf,
    /// Objects of the in-tree kernel.
    #[arg(long, env = "VM_INTREE")]
    pub intree: PathBuf,
    /// What the series have changed in its source.
    #[arg(long, env = "VM_LAID")]
    pub laid: PathBuf,
    /// Objects of the in-tree kernel without checkers.
    #[arg(long, env = "VM_BARE")]
    pub bare: PathBuf,
    /// Objects of the in-tree kernel with our driver in its image.
    #[arg(long, env = "VM_BUILTIN")]
    pub builtin: PathBuf,
    /// Objects of the in-tree kernel with all checkers.
    #[arg(long, env = "VM_DEBUG")]
    pub debug: PathBuf,
    /// Modules with the fixes for the C driver, for the in-tree kernel.
    #[arg(long, env = "VM_FIXED")]
    pub fixed: PathBuf,
    /// The kernel's VFIO selftests.
    #[arg(long, env = "VM_SELFTESTS")]
    pub selftests: PathBuf,
    /// Inputs that fuzzing has kept.
    #[arg(long, env = "VM_FUZZ")]
    pub fuzz: PathBuf,
    /// The QEMU that uses our VFs.
    #[arg(long, env = "VM_CONSUMER")]
    pub consumer: PathBuf,
    /// The test of rdma-core's driver.
    #[arg(long, env = "VM_RDMA")]
    pub rdma: PathBuf,
    /// ethtool, ip and tc with their libraries, as files of a test machine.
    #[arg(long, env = "VM_NET_TOOLS")]
    pub net_tools: PathBuf,
    /// Where cargo-mutants is installed.
    #[arg(long, env = "VM_CARGO_MUTANTS")]
    pub cargo_mutants: PathBuf,
    /// The series that the in-tree kernel has, if not all: it may lack modules of ours.
    #[arg(long, env = "VM_TIP")]
    pub tip: Option<String>,
    /// Modules that take the place of ours, in a folder for each kernel.
    #[arg(skip)]
    pub modules: Option<PathBuf>,
}

impl Paths {
    /// A file of the checkout, by a path without blanks and the like.
    pub fn plain(&self, file: &Path) -> PathBuf {
        match file.strip_prefix(&self.top) {
            Ok(rest) => self.plain_top.join(rest),
            Err(_) => file.to_path_buf(),
        }
    }

    /// Where results go.
    pub fn out(&self) -> PathBuf {
        self.top.join("out")
    }
}

// SPDX-License-Identifier: GPL-2.0

//! A host for tests: a folder with the files of a PF that has two VFs, and a devlink that
//! remembers.

use super::{
    devlink::{
        Devlink,
        EswitchMode,
        Info,
        VfPort, //
    },
    netlink::Failure,
    plan::{
        Mode,
        Plan,
        Told, //
    },
    Host, //
};
use crate::{
    bdf::Bdf,
    error::Error, //
};
use std::{
    cell::{
        Cell,
        RefCell, //
    },
    collections::HashMap,
    fmt::Display,
    fs,
    io,
    net::IpAddr,
    os::unix::fs::symlink,
    path::{
        Path,
        PathBuf, //
    },
    rc::Rc, //
};

/// What devlink says.
pub struct State {
    /// The mode of the e-switch, or why it cannot be asked.
    pub mode: Result<EswitchMode, i32>,
    /// Why the mode cannot be changed.
    pub mode_fails: Option<i32>,
    /// What INFO_GET says, or why it cannot be asked.
    pub info: Result<Info, i32>,
    /// The ports of VFs, in switchdev mode.
    pub ports: Vec<VfPort>,
    /// Why they cannot be asked for.
    pub ports_fail: Option<i32>,
}

/// Devlink of a [`Fake`].
#[derive(Clone)]
struct FakeDevlink(Rc<RefCell<State>>);

impl Devlink for FakeDevlink {
    fn eswitch_mode(&self, _pf: Bdf) -> Result<EswitchMode, Failure> {
        self.0.borrow().mode.map_err(Failure::from)
    }

    fn set_eswitch_mode(&self, _pf: Bdf, mode: EswitchMode) -> Result<(), Failure> {
        let mut state = self.0.borrow_mut();
        if let Some(errno) = state.mode_fails {
            return Err(errno.into());
        }
        state.mode = Ok(mode);
        Ok(())
    }

    fn info(&self, _pf: Bdf) -> Result<Info, Failure> {
        self.0.borrow().info.clone().map_err(Failure::from)
    }

    fn vf_ports(&self, _pf: Bdf) -> Result<Vec<VfPort>, Failure> {
        let state = self.0.borrow();
        if let Some(errno) = state.ports_fail {
            return Err(errno.into());
        }
        match state.mode {
            Ok(EswitchMode::Switchdev) => Ok(state.ports.clone()),
            _ => Ok(Vec::new()),
        }
    }

    fn set_migratable(&self, _pf: Bdf, index: u32, migratable: bool) -> Result<(), Failure> {
        let mut state = self.0.borrow_mut();
        for port in state.ports.iter_mut().filter(|port| port.index == index) {
            port.migratable = Some(migratable);
        }
        Ok(())
    }
}

/// The host.
pub struct Fake {
    root: PathBuf,
    devlink: FakeDevlink,
    addresses: Rc<RefCell<HashMap<String, Vec<IpAddr>>>>,
    /// Why groups cannot be opened.
    group: Rc<Cell<Option<i32>>>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// The address of the PF.
pub const PF: &str = "0000:01:00.0";
/// Those of its VFs.
pub const VFS: [&str; 2] = ["0000:01:00.2", "0000:01:00.3"];

/// The PF.
pub fn pf() -> Bdf {
    PF.parse().unwrap()
}

/// Its first VF.
pub fn vf() -> Bdf {
    VFS[0].parse().unwrap()
}

/// The path of a file of a function.
pub fn of(function: &str, file: &str) -> String {
    format!("/sys/bus/pci/devices/{function}/{file}")
}

/// The message of an error.
pub fn refusal<T, E: Display>(result: Result<T, E>) -> String {
    match result {
        Ok(_) => panic!("no error"),
        Err(err) => err.to_string(),
    }
}

/// Makes a plan, and returns what it says, with its result. Notes begin with `# `.
pub fn planned<T>(
    fake: &Fake,
    mode: Mode,
    work: impl FnOnce(&mut Plan<'_>) -> Result<T, Error>,
) -> (Vec<String>, Result<T, Error>) {
    let host = fake.host();
    let mut lines = Vec::new();
    let mut tell = |told: Told<'_>| {
        lines.push(match told {
            Told::Step(line) => line.to_string(),
            Told::Note(note) => format!("# {note}"),
            Told::Waiting(why) => format!("... {why}"),
        });
        Ok(())
    };
    let mut plan = Plan::new(&host, mode, &mut tell);
    let result = work(&mut plan);
    let result = plan.end(result);
    (lines, result)
}

impl Fake {
    /// Makes one for the test of this name: `01:00.0` with mlx5_core has the VFs `01:00.2` and
    /// `01:00.3`, in the IOMMU groups 7 and 8, which no driver has. Drivers are loaded.
    pub fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("vfio-mig-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let port = |vf: u32| VfPort {
            index: vf + 1,
            vf,
            representor: Some(format!("eth0_{vf}")),
            migratable: Some(false),
        };
        let fake = Self {
            root,
            devlink: FakeDevlink(Rc::new(RefCell::new(State {
                mode: Ok(EswitchMode::Legacy),
                mode_fails: None,
                info: Ok(Info {
                    firmware: Some("28.41.1000".to_string()),
                    psid: Some("MT_0000000834".to_string()),
                }),
                ports: vec![port(0), port(1)],
                ports_fail: None,
            }))),
            addresses: Rc::default(),
            group: Rc::default(),
        };
        for driver in ["mlx5_core", "mlx5_vfio_pci_rust", "vfio-pci"] {
            fake.load(driver);
        }
        fake.function(PF, "0x15b3", "0x020000");
        for (file, text) in [
            ("sriov_totalvfs", "8"),
            ("sriov_numvfs", "2"),
            ("sriov_offset", "2"),
            ("sriov_stride", "1"),
            ("sriov_drivers_autoprobe", "1"),
        ] {
            fake.write(&of(PF, file), &format!("{text}\n"));
        }
        for (number, vf) in VFS.iter().enumerate() {
            fake.function(vf, "0x15b3", "0x020000");
            fake.link(&of(vf, "physfn"), &format!("../{PF}"));
            fake.link(&of(PF, &format!("virtfn{number}")), &format!("../{vf}"));
            let group = format!("/sys/kernel/iommu_groups/{}/devices/{vf}", number + 7);
            fake.folder(&group);
            let group = format!("../../../../kernel/iommu_groups/{}", number + 7);
            fake.link(&of(vf, "iommu_group"), &group);
        }
        for number in 0..VFS.len() {
            fake.folder(&format!("/sys/class/net/eth0_{number}"));
        }
        fake.function("0000:00:02.0", "0x8086", "0x030000");
        fake.bind(PF, "mlx5_core");
        fake.write("sys/bus/pci/drivers_probe", "");
        fake
    }

    /// The host.
    pub fn host(&self) -> Host {
        let addresses = self.addresses.clone();
        let of = move |name: &str| addresses.borrow().get(name).cloned().unwrap_or_default();
        let group = self.group.clone();
        let open = move |_: &Path| match group.get() {
            None => Ok(()),
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
        };
        let devlink = Box::new(self.devlink.clone());
        Host::new(&self.root, devlink, Box::new(of), Box::new(open))
    }

    /// Changes what devlink says.
    pub fn devlink(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.devlink.0.borrow_mut());
    }

    /// Takes the VFs from the PF.
    pub fn remove_vfs(&self) {
        for number in 0..VFS.len() {
            self.remove(&of(PF, &format!("virtfn{number}")));
        }
    }

    /// Where a file of the host is.
    pub fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn path(&self, path: &str) -> PathBuf {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
        path
    }

    /// Makes a folder.
    pub fn folder(&self, path: &str) {
        fs::create_dir_all(self.path(path)).unwrap();
    }

    /// Writes a file.
    pub fn write(&self, path: &str, text: &str) {
        fs::write(self.path(path), text).unwrap();
    }

    /// What is in a file.
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }

    /// Makes a link, in the place of an older one.
    pub fn link(&self, path: &str, target: &str) {
        let path = self.path(path);
        let _ = fs::remove_file(&path);
        symlink(target, path).unwrap();
    }

    /// Removes a folder, or a file.
    pub fn remove(&self, path: &str) {
        let path = self.at(path);
        match path.is_symlink() || path.is_file() {
            true => fs::remove_file(path).unwrap(),
            false => fs::remove_dir_all(path).unwrap(),
        }
    }

    fn function(&self, name: &str, vendor: &str, class: &str) {
        self.write(&of(name, "vendor"), &format!("{vendor}\n"));
        self.write(&of(name, "device"), "0x1021\n");
        self.write(&of(name, "class"), &format!("{class}\n"));
        self.write(&of(name, "driver_override"), "(null)\n");
    }

    /// Loads a driver. It is one of VFIO's if its name says so.
    pub fn load(&self, driver: &str) {
        for file in ["bind", "unbind"] {
            self.write(&format!("sys/bus/pci/drivers/{driver}/{file}"), "");
        }
        let module = driver.replace('-', "_");
        let target = format!("../../../../module/{module}");
        self.link(&format!("sys/bus/pci/drivers/{driver}/module"), &target);
        if driver.contains("vfio") {
            self.folder(&format!("sys/module/vfio_pci_core/holders/{module}"));
        }
    }

    /// Binds a function.
    pub fn bind(&self, function: &str, driver: &str) {
        self.link(&of(function, "driver"), &format!("../../drivers/{driver}"));
        if driver.contains("vfio") {
            self.folder(&of(function, "vfio-dev/vfio0"));
        }
    }

    /// Has a process open a file.
    pub fn opens(&self, name: &str, id: u32, file: &str) {
        self.write(&format!("proc/{id}/comm"), &format!("{name}\n"));
        self.link(&format!("proc/{id}/fd/5"), file);
    }

    /// Ends a process.
    pub fn closes(&self, id: u32) {
        self.remove(&format!("proc/{id}"));
    }

    /// Has groups fail to open, or not.
    pub fn set_group(&self, errno: Option<i32>) {
        self.group.set(errno);
    }

    /// Gives an interface these addresses.
    pub fn set_addresses(&self, interface: &str, addresses: &[&str]) {
        let all = addresses.iter().map(|one| one.parse().unwrap()).collect();
        self.addresses
            .borrow_mut()
            .insert(interface.to_string(), all);
    }
}

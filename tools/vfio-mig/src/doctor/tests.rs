// SPDX-License-Identifier: GPL-2.0

//! What the doctor says of hosts that lack one thing.

use super::{
    asking::Answer,
    report::Verdict::{
        self,
        Missing,
        Ok,
        Warning, //
    },
    *, //
};
use crate::{
    error::Error,
    host::{
        devlink::EswitchMode,
        fake::{
            of,
            Fake,
            PF,
            VFS, //
        },
    },
};

const VF: &str = VFS[0];
const LIB: &str = "lib/modules/7.2.12-test";

/// A host that can migrate.
fn good(name: &str) -> Fake {
    let fake = Fake::new(name);
    fake.write("proc/sys/kernel/osrelease", "7.2.12-test\n");
    fake.write("proc/cpuinfo", "vendor_id\t: GenuineIntel\n");
    let options = [
        "PCI_IOV=y",
        "MLX5_CORE=m",
        "MLX5_ESWITCH=y",
        "VFIO_PCI_CORE=m",
        "IOMMUFD=m",
        "IOMMUFD_DRIVER=y",
    ];
    let config = options.map(|option| format!("CONFIG_{option}\n")).concat();
    fake.write("boot/config-7.2.12-test", &config);
    for module in [
        "mlx5_core",
        "vfio_pci_core",
        "iommufd",
        "mlx5_vfio_pci_rust",
    ] {
        fake.folder(&format!("sys/module/{module}"));
    }
    fake.write("proc/self/status", "Name:\tx\nCapEff:\t000001ffffffffff\n");
    fake.write(
        "proc/self/limits",
        "Max locked memory         8388608   8388608   bytes\n",
    );
    fake.devlink(|state| {
        state.mode = Result::Ok(EswitchMode::Switchdev);
        for port in &mut state.ports {
            port.migratable = Some(true);
        }
    });
    for vf in VFS {
        fake.bind(vf, "mlx5_vfio_pci_rust");
    }
    fake
}

fn checks(fake: &Fake) -> Vec<Check> {
    examine(&fake.host(), None, None).unwrap().checks
}

/// The check of a name.
fn check(fake: &Fake, name: &str) -> Check {
    let all = checks(fake);
    let found = all.iter().find(|check| check.name == name);
    found
        .cloned()
        .unwrap_or_else(|| panic!("no {name}: {all:?}"))
}

/// Fails unless the check has a verdict, and `words` in what was found or is to be done.
fn assert_check(fake: &Fake, name: &str, verdict: Verdict, words: &str) {
    let check = check(fake, name);
    assert_eq!(check.verdict, verdict, "{check:?}");
    let said = [
        vec![check.found.clone()],
        check.advice.clone(),
        check.commands.clone(),
    ]
    .concat();
    assert!(
        said.iter().any(|text| text.contains(words)),
        "{words}: {check:?}"
    );
}

#[test]
fn a_good_host_lacks_nothing() {
    let fake = good("good");
    let report = examine(&fake.host(), None, None).unwrap();
    assert_eq!(report.count(Missing), 0, "{report:?}");
    let warned: Vec<&str> = report
        .checks
        .iter()
        .filter(|check| check.verdict == Warning)
        .map(|check| check.name.as_str())
        .collect();
    assert_eq!(warned, ["QEMU"]);
    let vf = examine(&fake.host(), VF.parse().ok(), None).unwrap();
    assert_eq!(vf.adapters[0].vfs.len(), 1);
    assert_eq!(report.adapters[0].vfs.len(), 2);
    assert_eq!(report.adapters[0].vfs[0].migratable, Some(true));
    assert!(examine(&fake.host(), "00:02.0".parse().ok(), None).is_err());
}

#[test]
fn without_an_adapter_it_says_what_to_check() {
    let fake = good("none");
    for function in [PF].iter().chain(&VFS) {
        fake.remove(&of(function, "vendor"));
    }
    assert_check(&fake, "adapter", Missing, "no ConnectX was found");
    let check = check(&fake, "adapter");
    assert!(check.advice[1].contains("seated in its slot"), "{check:?}");
    // There is nothing for lspci to list.
    assert!(!format!("{check:?}").contains("lspci"), "{check:?}");
}

#[test]
fn what_is_missing_comes_with_what_mends_it() {
    let fake = good("bad");
    for (release, verdict) in [("6.12.1", Warning), ("6.1.0", Missing)] {
        fake.write("proc/sys/kernel/osrelease", release);
        assert_check(&fake, "kernel", verdict, "boot Linux 7.2 or 7.3, or");
        assert_check(&fake, "configuration", Warning, "/proc/config.gz");
    }
    fake.write("proc/sys/kernel/osrelease", "next");
    assert_check(&fake, "kernel", Warning, "\"next\" is no version");
    fake.remove("proc/sys/kernel/osrelease");
    assert_check(&fake, "kernel", Warning, "osrelease cannot be read");
    assert_check(&fake, "kernel", Warning, "uname -r");
    fake.write("proc/sys/kernel/osrelease", "7.2.12-test\n");
    fake.write("boot/config-7.2.12-test", "CONFIG_PCI_IOV=y\n");
    assert_check(
        &fake,
        "configuration",
        Missing,
        "CONFIG_VFIO_IOMMU_TYPE1 or CONFIG_IOMMUFD",
    );
    assert_check(&fake, "dirty pages", Missing, "CONFIG_IOMMUFD_DRIVER");
    fake.remove("boot/config-7.2.12-test");
    assert_check(&fake, "dirty pages", Warning, "modprobe iommufd");
    fake.write("dev/iommu", "");
    assert_check(&fake, "dirty pages", Ok, "by the VFs alone");
    fake.write("sys/class/iommu/dmar0/intel-iommu/ecap", "280000000000\n");
    assert_check(&fake, "dirty pages", Ok, "by the IOMMU");
    fake.write(
        "sys/class/iommu/ivhd0/amd-iommu/features",
        "2000000000000:0\n",
    );
    assert_check(&fake, "dirty pages", Ok, "by the VFs alone");

    fake.remove("sys/module/mlx5_vfio_pci_rust");
    let neither = "neither mlx5_vfio_pci_rust nor mlx5_vfio_pci is loaded";
    assert_check(&fake, "module: VFs", Missing, neither);
    assert_check(&fake, "module: VFs", Missing, "the page \"Installing\"");
    fake.write(
        &format!("{LIB}/modules.dep"),
        "extra/mlx5_vfio_pci_rust.ko: extra/vfio_rust.ko\n",
    );
    assert_check(&fake, "module: VFs", Missing, "modprobe mlx5_vfio_pci_rust");

    fake.write("proc/self/status", "CapEff:\t0000000000000000\n");
    assert_check(&fake, "locked memory", Warning, "8 MiB at most");
    fake.write(
        "proc/self/limits",
        "Max locked memory         unlimited  unlimited  bytes\n",
    );
    assert_check(&fake, "locked memory", Ok, "without a limit");

    fake.remove("sys/kernel/iommu_groups");
    assert_check(&fake, "IOMMU", Missing, "intel_iommu=on");
    fake.remove(&of(VF, "iommu_group"));
    assert_check(&fake, &format!("{VF} group"), Missing, "IOMMU");
}

#[test]
fn the_driver_of_a_vf_must_be_one_that_migrates() {
    let fake = good("drivers");
    let name = format!("{VF} driver");
    let bind = format!("vfio-mig bind {VF}");
    fake.opens("qemu", 4, "/dev/vfio/7");
    assert_check(&fake, &name, Ok, "in use by qemu (process 4)");
    fake.bind(VF, "vfio-pci");
    assert_check(&fake, &name, Missing, "cannot migrate");
    fake.bind(VF, "mlx5_core");
    fake.folder(&of(VF, "net/eth7"));
    fake.set_addresses("eth7", &["192.0.2.7"]);
    assert_check(&fake, &name, Missing, "eth7 has the address 192.0.2.7");
    fake.remove(&of(VF, "driver"));
    assert_check(&fake, &name, Missing, &bind);
    // The group has a device that the host uses.
    let other = "sys/kernel/iommu_groups/7/devices/0000:01:00.0";
    fake.folder(other);
    assert_check(&fake, &format!("{VF} group"), Missing, "0000:01:00.0");
}

#[test]
fn the_pf_must_have_its_driver_its_vfs_and_its_mode() {
    let fake = good("pf");
    let pf = PF;
    fake.bind(pf, "vfio-pci");
    assert_check(
        &fake,
        &format!("{pf} driver"),
        Missing,
        "drivers/mlx5_core/bind",
    );
    let autoprobe = of(pf, "sriov_drivers_autoprobe");
    assert_check(&fake, &format!("{pf} autoprobe"), Ok, "new VFs get");
    fake.write(&autoprobe, "0\n");
    let mends = format!("echo 1 > {autoprobe}");
    assert_check(&fake, &format!("{pf} autoprobe"), Warning, &mends);
    fake.devlink(|state| state.mode = Result::Ok(EswitchMode::Legacy));
    assert_check(&fake, &format!("{pf} e-switch"), Warning, "mode switchdev");
    assert_check(&fake, &format!("{VF} migratable"), Warning, "--open");
    fake.devlink(|state| state.mode = Err(libc::EOPNOTSUPP));
    assert_check(
        &fake,
        &format!("{pf} e-switch"),
        Warning,
        "devlink says Operation not supported",
    );
    let firmware = format!("{pf} firmware");
    for (version, verdict, words) in [
        ("28.39.1002", Missing, "28.41.1000"),
        ("22.36.1010", Warning, "NVIDIA documents"),
        ("32.45.1020", Ok, "MT_0000000834"),
    ] {
        fake.devlink(|state| state.info.as_mut().unwrap().firmware = Some(version.to_string()));
        assert_check(&fake, &firmware, verdict, words);
    }
    fake.devlink(|state| state.info = Err(libc::ENODEV));
    assert_check(&fake, &firmware, Warning, "No such device");
    fake.remove_vfs();
    assert_check(
        &fake,
        &format!("{pf} VFs"),
        Missing,
        "vfio-mig setup 0000:01:00.0 --vfs",
    );
    fake.write(&of(pf, "sriov_totalvfs"), "0\n");
    assert_check(
        &fake,
        &format!("{pf} VFs"),
        Missing,
        "mstconfig -d 0000:01:00.0 set SRIOV_EN=1",
    );
}

#[test]
fn devlink_or_the_driver_says_whether_a_vf_is_migratable() {
    let fake = good("migratable");
    let name = format!("{VF} migratable");
    for (migratable, words) in [
        (Some(false), "migratable enable"),
        (None, "VF_MIGRATION_MODE=2"),
    ] {
        fake.devlink(|state| state.ports[0].migratable = migratable);
        assert_check(&fake, &name, Missing, words);
    }
    let asked = |fake: &Fake, ask: &Ask| {
        let report = examine(&fake.host(), VF.parse().ok(), Some(ask)).unwrap();
        let check = report
            .checks
            .iter()
            .find(|check| check.name == name)
            .cloned();
        (check.unwrap(), report.adapters[0].vfs[0].migratable)
    };
    let yes = |logs| {
        move |_| {
            let features = vec!["STOP_COPY".to_string()];
            Result::<_, Error>::Ok(Answer::Migratable { features, logs })
        }
    };
    let (check, known) = asked(&fake, &yes(true));
    assert_eq!((check.verdict, known), (Ok, Some(true)));
    assert_eq!(asked(&fake, &yes(false)).0.verdict, Warning);
    fake.devlink(|state| state.mode = Result::Ok(EswitchMode::Legacy));
    let (check, known) = asked(&fake, &|_| Result::Ok(Answer::NotMigratable));
    assert_eq!((check.verdict, known), (Missing, Some(false)));
    assert_eq!(check.commands, [format!("dmesg | grep {VF}")]);
    let (check, known) = asked(&fake, &|_| Err(Error::Unexpected("it fails".to_string())));
    assert_eq!((check.verdict, known), (Warning, None));
    assert!(
        check
            .advice
            .iter()
            .any(|text| text.ends_with("asked: it fails")),
        "{check:?}"
    );
    // A VF that is in use is not opened.
    fake.opens("qemu", 4, "/dev/vfio/7");
    let (check, _) = asked(&fake, &|_| panic!("asked"));
    assert_eq!(check.verdict, Warning);
}

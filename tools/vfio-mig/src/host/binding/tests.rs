// SPDX-License-Identifier: GPL-2.0

use super::{
    super::{
        devlink::EswitchMode,
        fake::{
            of,
            planned,
            refusal,
            vf,
            Fake,
            PF,
            VFS, //
        },
        plan::Mode, //
    },
    *, //
};

const VF: &str = VFS[0];
const DRIVERS: &str = "/sys/bus/pci/drivers";

fn shown_bind(fake: &Fake) -> Vec<String> {
    let (lines, result) = planned(fake, Mode::Show, |plan| {
        bind(plan, &[vf()], "mlx5_vfio_pci_rust", Force::No)
    });
    result.unwrap();
    lines
}

#[test]
fn a_vf_is_given_to_a_driver_by_name() {
    let fake = Fake::new("bind");
    let names = format!("echo mlx5_vfio_pci_rust > {}", of(VF, "driver_override"));
    let probe = format!("echo {VF} > /sys/bus/pci/drivers_probe");
    assert_eq!(shown_bind(&fake), [names.clone(), probe.clone()]);
    fake.bind(VF, "mlx5_core");
    let release = format!("echo {VF} > {DRIVERS}/mlx5_core/unbind");
    assert_eq!(shown_bind(&fake), [release, names.clone(), probe]);
    // Only shown.
    let path = of(VF, "driver_override");
    assert_eq!(fake.read(&path), "(null)\n");
    fake.bind(VF, "mlx5_vfio_pci_rust");
    assert_eq!(shown_bind(&fake), [names]);
    fake.write(&path, "mlx5_vfio_pci_rust\n");
    assert!(shown_bind(&fake).is_empty());
}

#[test]
fn a_vf_that_is_not_migratable_is_named() {
    let fake = Fake::new("too-late");
    // Of the other modes, devlink knows nothing.
    assert!(!shown_bind(&fake)[0].starts_with('#'));
    fake.devlink(|state| state.mode = Ok(EswitchMode::Switchdev));
    let lines = shown_bind(&fake);
    let note = format!("# {VF} is not migratable");
    assert!(lines[0].starts_with(&note), "{lines:?}");
    fake.devlink(|state| state.ports[0].migratable = Some(true));
    assert!(!shown_bind(&fake)[0].starts_with('#'));
}

#[test]
fn what_has_failed_is_undone() {
    let fake = Fake::new("undone");
    fake.bind(VF, "vfio-pci");
    let path = of(VF, "driver_override");
    fake.write(&path, "vfio-pci\n");
    // No kernel is behind these files: the driver stays what it is.
    let (lines, result) = planned(&fake, Mode::Do, |plan| {
        bind(plan, &[vf()], "mlx5_vfio_pci_rust", Force::No)
    });
    let text = refusal(result);
    assert!(
        text.contains("mlx5_vfio_pci_rust did not take it, which is now bound to vfio-pci"),
        "{text}"
    );
    let last: Vec<&str> = lines
        .iter()
        .rev()
        .take(2)
        .rev()
        .map(String::as_str)
        .collect();
    assert_eq!(
        last,
        [
            format!("echo vfio-pci > {path}"),
            format!("echo {VF} > {DRIVERS}/vfio-pci/bind"),
        ]
    );
    assert_eq!(fake.read(&path), "vfio-pci\n");
}

#[test]
fn the_kernel_has_its_way_again_after_unbind() {
    let fake = Fake::new("unbind");
    fake.bind(VF, "mlx5_vfio_pci_rust");
    let path = of(VF, "driver_override");
    fake.write(&path, "mlx5_vfio_pci_rust\n");
    let mut expected = vec![
        format!("echo {VF} > {DRIVERS}/mlx5_vfio_pci_rust/unbind"),
        format!("echo > {}", of(VF, "driver_override")),
        format!("echo {VF} > /sys/bus/pci/drivers_probe"),
    ];
    let (lines, result) = planned(&fake, Mode::Do, |plan| unbind(plan, &[vf()]));
    result.unwrap();
    assert_eq!(lines, expected);
    assert_eq!(fake.read(&path), "\n");
    fake.write(&of(PF, "sriov_drivers_autoprobe"), "0\n");
    fake.write(&path, "mlx5_vfio_pci_rust\n");
    expected.pop();
    let (lines, result) = planned(&fake, Mode::Show, |plan| unbind(plan, &[vf()]));
    result.unwrap();
    assert_eq!(lines, expected);
}

#[test]
fn a_wrong_function_or_driver_is_refused_with_what_is_right() {
    let fake = Fake::new("refused");
    let refused = |function: &str| {
        let function = function.parse().unwrap();
        let (lines, result) = planned(&fake, Mode::Do, |plan| {
            bind(plan, &[vf(), function], "vfio-pci", Force::No)
        });
        assert!(lines.is_empty(), "{lines:?}");
        refusal(result)
    };
    assert!(refused("01:00.0").contains("not a VF; its VFs: 0000:01:00.2, 0000:01:00.3"));
    assert!(refused("02:00.0").contains("no such device; PFs of this host: 0000:01:00.0"));
    fake.bind(VFS[1], "mlx5_vfio_pci_rust");
    fake.opens("qemu", 9, "/dev/vfio/8");
    assert!(refused("01:00.3").contains("in use by qemu (process 9)"));
    let (_, result) = planned(&fake, Mode::Do, |plan| unbind(plan, &[vf()]));
    let text = refusal(result);
    assert!(
        text.contains("bound to no driver, and names no other"),
        "{text}"
    );
    for name in ["mlx4_vfio", "../drivers/vfio-pci", "", ".."] {
        let text = refusal(choose_driver(&fake.host(), Some(name)));
        assert!(
            text.contains("able to migrate: mlx5_vfio_pci_rust"),
            "{text}"
        );
        let remedy = format!("`modprobe {}`", crate::text::quoted(name));
        assert!(text.contains(&remedy), "{text}");
    }
}

#[test]
fn a_driver_that_would_use_a_vf_itself_is_refused() {
    let fake = Fake::new("nvme");
    fake.load("nvme");
    for driver in ["nvme", "mlx5_core"] {
        let text = refusal(choose_driver(&fake.host(), Some(driver)));
        let words = [
            format!("{driver} is not a VFIO driver"),
            "loaded: mlx5_vfio_pci_rust, vfio-pci".to_string(),
        ];
        assert!(words.iter().all(|words| text.contains(words)), "{text}");
    }
}

#[test]
fn nobody_guesses_which_of_two_drivers_is_meant() {
    let fake = Fake::new("guess");
    let host = fake.host();
    assert_eq!(choose_driver(&host, None).unwrap(), "mlx5_vfio_pci_rust");
    fake.load("mlx5_vfio_pci");
    let text = refusal(choose_driver(&host, None));
    assert!(text.contains("--driver"), "{text}");
    for driver in VARIANTS.into_iter().chain(["vfio-pci"]) {
        assert_eq!(choose_driver(&host, Some(driver)).unwrap(), driver);
    }
    for driver in VARIANTS {
        fake.remove(&format!("sys/bus/pci/drivers/{driver}"));
    }
    let text = refusal(choose_driver(&host, None));
    assert!(text.contains("modprobe mlx5_vfio_pci"), "{text}");
}

#[test]
fn the_command_is_named_for_vfs_only() {
    let fake = Fake::new("command");
    let command = |device: &str| command(&fake.host(), device.parse().unwrap());
    assert_eq!(
        command(VF).unwrap(),
        format!("`vfio-mig bind {VF}` gives it to one that can migrate it")
    );
    for other in [PF, "ff:1f.7", "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"] {
        assert_eq!(command(other), None, "{other}");
    }
}

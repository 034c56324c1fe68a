// SPDX-License-Identifier: GPL-2.0

//! What the states are, and what a device does in them.

use super::{
    require,
    require_errno,
    site::{
        require_state,
        require_workload, //
    },
    skip,
    Site,
    Test,
    Verdict, //
};
use crate::{
    address::Address,
    memory::DeviceMemory,
    state::State,
    uapi,
    workload, //
};
use std::{
    thread,
    time::Duration, //
};

/// Where a device gets some memory.
const IOVA: u64 = 0x1_0000_0000;
const PAGE: u64 = 4096;
/// Time in which a state must not change by itself.
const PATIENCE: Duration = Duration::from_millis(100);

fn begins_running(site: &Site) -> Verdict {
    let device = site.open_as_left()?;
    device.features()?;
    let state = device.state()?;
    require(state == State::RUNNING, || format!("it is in {state}"))
}

fn no_such_state(site: &Site) -> Verdict {
    let device = site.open()?;
    for state in [8, 9, 0x8000_0000, u32::MAX] {
        let of = format!("state {state:#x}");
        require_errno(uapi::set_state(device.fd(), state), libc::EINVAL, &of)?;
        let now = device.state()?;
        require(now == State::RUNNING, || format!("{of} leads to {now}"))?;
    }
    Ok(())
}

fn unsupported_states_are_refused(site: &Site) -> Verdict {
    let (device, features) = site.open_running()?;
    let mut unsupported = State::ALL.into_iter().filter(|s| !features.supports(*s));
    let Some(first) = unsupported.next() else {
        return skip("the device supports all states");
    };
    for state in [first].into_iter().chain(unsupported) {
        let of = state.to_string();
        require_errno(uapi::set_state(device.fd(), state.0), libc::EINVAL, &of)?;
        let now = device.state()?;
        require(now == State::RUNNING, || format!("{of} leads to {now}"))?;
    }
    Ok(())
}

fn nothing_changes_by_itself(site: &Site) -> Verdict {
    let features = site.open_running()?.1;
    for state in State::ALL {
        if state == State::ERROR || !features.supports(state) {
            continue;
        }
        let (device, _file) = site.open_in(state)?;
        thread::sleep(PATIENCE);
        let now = device.state()?;
        require(now == state, || format!("{state} became {now}"))?;
    }
    Ok(())
}

/// Each of the states can be entered, from a device that runs.
fn can_be_entered(site: &Site, states: &[State]) -> Verdict {
    for state in states {
        let (device, _file) = site.open_in(*state)?;
        let now = device.state()?;
        require(now == *state, || format!("{state} leads to {now}"))?;
    }
    Ok(())
}

fn stop_copy_states(site: &Site) -> Verdict {
    can_be_entered(site, &[State::STOP, State::STOP_COPY, State::RESUMING])
}

fn p2p_states(site: &Site) -> Verdict {
    can_be_entered(site, &[State::RUNNING_P2P])
}

fn precopy_states(site: &Site) -> Verdict {
    can_be_entered(site, &[State::PRE_COPY])
}

fn all_states(site: &Site) -> Verdict {
    can_be_entered(
        site,
        &[State::RUNNING_P2P, State::PRE_COPY, State::PRE_COPY_P2P],
    )
}

/// Has the device write to memory, and says whether it did.
fn writes_memory(site: &Site, state: State) -> Result<bool, super::Stop> {
    let (device, features) = site.open_running()?;
    require_state(features, state)?;
    require_workload(&device)?;
    let memory = DeviceMemory::new(PAGE as usize)?;
    device.space().map(&memory, IOVA)?;
    let _file = device.set_state(state)?;
    // A device that refuses to write is as good as one that does not write.
    let _ = workload::write(&device, IOVA, PAGE);
    thread::sleep(PATIENCE);
    Ok((0..PAGE as usize).step_by(8).any(|at| memory.word(at) != 0))
}

fn no_dma_when_stopped(site: &Site) -> Verdict {
    for state in [State::STOP, State::STOP_COPY, State::RESUMING] {
        let wrote = writes_memory(site, state)?;
        require(!wrote, || format!("it writes to memory in {state}"))?;
    }
    Ok(())
}

fn dma_while_running(site: &Site) -> Verdict {
    for state in [State::RUNNING, State::PRE_COPY] {
        match writes_memory(site, state) {
            Err(super::Stop::Skip(_)) if state != State::RUNNING => (),
            wrote => require(wrote?, || format!("it does not write to memory in {state}"))?,
        }
    }
    Ok(())
}

fn config_space_when_stopped(site: &Site) -> Verdict {
    if matches!(site.device, Address::Mdev(_)) {
        return skip("not a PCI function");
    }
    let features = site.open_running()?.1;
    for state in State::ALL {
        if state == State::ERROR || !features.supports(state) {
            continue;
        }
        let (device, _file) = site.open_in(state)?;
        let offset = device.region(uapi::CONFIG_REGION)?.offset;
        let mut id = [0; 4];
        device.read_at(offset, &mut id)?;
        require(id != [0xff; 4] && id != [0; 4], || {
            format!("in {state}, its IDs read as {id:x?}")
        })?;
        // The interrupt line is a scratch register.
        let mut line = [0; 1];
        device.read_at(offset + 0x3c, &mut line)?;
        device.write_at(offset + 0x3c, &line)?;
    }
    Ok(())
}

fn interrupts_when_stopped(site: &Site) -> Verdict {
    let eventfds = [uapi::eventfd()?];
    if site.open_running()?.0.set_msix(&eventfds).is_err() {
        return skip("the device has no MSI-X");
    }
    for state in [State::STOP, State::STOP_COPY] {
        let (device, _file) = site.open_in(state)?;
        if let Err(err) = device.set_msix(&eventfds) {
            return require(false, || format!("in {state}: {err}"));
        }
    }
    Ok(())
}

pub fn tests() -> Vec<Test> {
    const STOPPED: &str = "When stopped the device and kernel migration driver must accept and \
                           respond to interaction to support external subsystems in the STOP \
                           state, for example PCI MSI-X and PCI config space.";
    vec![
        Test::uapi(
            "state.running_at_first",
            1016,
            "If this GET succeeds, the RUNNING and ERROR states are always supported.",
            begins_running,
        ),
        Test::uapi(
            "state.unknown",
            1046,
            "The new state is supplied in device_state, see enum vfio_device_mig_state for \
             details",
            no_such_state,
        ),
        Test::uapi(
            "state.unsupported",
            1230,
            "The optional states cannot be used with SET_STATE if the device does not \
             support them.",
            unsupported_states_are_refused,
        ),
        Test::uapi(
            "state.stays",
            1052,
            "The kernel migration driver must not generate asynchronous device state \
             transitions outside of manipulation by the user or the VFIO_DEVICE_RESET ioctl \
             as described above.",
            nothing_changes_by_itself,
        ),
        Test::uapi(
            "state.stop_copy",
            1021,
            "VFIO_MIGRATION_STOP_COPY means that STOP, STOP_COPY and RESUMING are supported.",
            stop_copy_states,
        ),
        Test::uapi(
            "state.p2p",
            1024,
            "VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P means that RUNNING_P2P is \
             supported in addition to the STOP_COPY states.",
            p2p_states,
        ),
        Test::uapi(
            "state.pre_copy",
            1027,
            "VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_PRE_COPY means that PRE_COPY is \
             supported in addition to the STOP_COPY states.",
            precopy_states,
        ),
        Test::uapi(
            "state.p2p_and_pre_copy",
            1030,
            "VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P | VFIO_MIGRATION_PRE_COPY means \
             that RUNNING_P2P, PRE_COPY and PRE_COPY_P2P are supported in addition to the \
             STOP_COPY states.",
            all_states,
        ),
        Test::uapi(
            "state.no_dma_when_stopped",
            1104,
            "The device must not generate interrupts, DMA, or any other change to external \
             state.",
            no_dma_when_stopped,
        ),
        Test::uapi(
            "state.dma_while_running",
            1131,
            "While in RUNNING the device is fully operational,",
            dma_while_running,
        ),
        Test::uapi(
            "state.config_space",
            1106,
            STOPPED,
            config_space_when_stopped,
        ),
        Test::uapi("state.interrupts", 1106, STOPPED, interrupts_when_stopped),
    ]
}

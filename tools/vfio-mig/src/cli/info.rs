// SPDX-License-Identifier: GPL-2.0

//! `info`: what a device offers.

use super::{
    complete,
    out::outln,
    show, //
};
use clap_complete::ArgValueCandidates;
use serde::Serialize;
use vfio_mig::{
    address::Address,
    device::Device,
    error::Error,
    state::State,
    uapi, //
};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// The device.
    #[arg(add = ArgValueCandidates::new(complete::devices))]
    device: Address,
}

#[derive(Serialize)]
struct Info<'a> {
    device: Address,
    driver: &'a str,
    access: &'a str,
    flags: u64,
    features: Vec<String>,
    states: Vec<State>,
    precopy_info_v2: bool,
    dma_logging: bool,
    state: State,
    data_size: Option<u64>,
}

pub fn run(args: &Args, json: bool) -> Result<(), Error> {
    let device = Device::open(args.device)?;
    let features = device.features()?;
    let tracks = device.has_feature(uapi::FEATURE_DMA_LOGGING_START, uapi::FEATURE_SET);
    let info = Info {
        device: args.device,
        driver: device.driver(),
        access: device.access(),
        flags: features.0,
        features: features.names(),
        states: State::ALL
            .into_iter()
            .filter(|state| features.supports(*state))
            .collect(),
        precopy_info_v2: device.has_feature(uapi::FEATURE_MIG_PRECOPY_INFO_V2, uapi::FEATURE_SET),
        dma_logging: tracks && Device::kernel_has_iommufd(),
        state: device.state()?,
        data_size: device.data_size().ok(),
    };
    if json {
        return show::json(&info);
    }
    let yes = |yes| if yes { "yes" } else { "no" };
    let states: Vec<String> = info.states.iter().map(State::to_string).collect();
    let size = info.data_size.map(|size| format!("{size} bytes"));
    let logging = match (tracks, info.dma_logging) {
        (true, false) => "no: there is no /dev/iommu",
        (_, dirty) => yes(dirty),
    };
    let fields = [
        ("device", info.device.to_string()),
        ("driver", info.driver.to_string()),
        ("opened through", info.access.to_string()),
        ("migration", info.features.join(", ")),
        ("states", states.join(", ")),
        ("PRECOPY_INFOv2", yes(info.precopy_info_v2).to_string()),
        ("DMA logging", logging.to_string()),
        ("state", info.state.to_string()),
    ];
    for (name, value) in fields
        .into_iter()
        .chain(size.map(|size| ("data size", size)))
    {
        outln!("{}", show::field(name, &value))?;
    }
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0

//! Transport interface send: what a send queue sends through.

use crate::{
    encoded::{
        list_len,
        BYTE, //
    },
    ifc::{
        ethernet::{
            tisc,
            CONTEXT, //
        },
        Status, //
    },
    resources::Saved, //
};
use serde::{
    Deserialize,
    Serialize, //
};

/// A TIS.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Tis {
    context: Vec<u8>,
}

impl Saved for Tis {
    const MAX_LEN: usize = list_len(tisc::LEN, BYTE);

    fn is_sound(&self) -> bool {
        self.context.len() == tisc::LEN
    }
}

impl Tis {
    /// CREATE_TIS.
    pub fn parse(input: &[u8]) -> Result<Self, Status> {
        let context = input.get(CONTEXT..CONTEXT + tisc::LEN);
        Ok(Self {
            context: context.ok_or(Status::BadInputLen)?.to_vec(),
        })
    }

    /// Its transport domain.
    pub fn transport_domain(&self) -> u32 {
        tisc::TRANSPORT_DOMAIN.get(&self.context) as u32
    }
}

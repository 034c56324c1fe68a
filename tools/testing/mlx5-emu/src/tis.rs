// SPDX-License-Identifier: GPL-2.0

//! Transport interface send: what a send queue sends through.

use crate::ifc::{
    ethernet::{
        tisc,
        CONTEXT, //
    },
    Status, //
};

/// A TIS.
#[derive(Clone, Debug)]
pub struct Tis {
    context: Vec<u8>,
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

// SPDX-License-Identifier: GPL-2.0

//! The PAGE_TRACK object: commands that create, query, modify and destroy it.

use super::{
    bindings::{
        self,
        mlx5_ifc_general_obj_in_cmd_hdr_bits,
        MLX5_CMD_OP_CREATE_GENERAL_OBJECT,
        MLX5_CMD_OP_DESTROY_GENERAL_OBJECT,
        MLX5_CMD_OP_MODIFY_GENERAL_OBJECT,
        MLX5_CMD_OP_QUERY_GENERAL_OBJECT,
        MLX5_OBJ_TYPE_PAGE_TRACK,
        MLX5_PAGE_TRACK_STATE_ERROR,
        MLX5_PAGE_TRACK_STATE_REPORTING, //
    },
    bits::{
        Part,
        Value, //
    },
    device::{
        Device,
        PfGuard, //
    },
    ifc::{
        constant,
        field,
        mailbox,
        part,
        LargeMailbox,
        Mailbox, //
    },
    qp::QueuePair,
    registry::{
        Key,
        Owned,
        Resource, //
    },
    track_limits::TrackLimits, //
};
use kernel::prelude::*;
use vfio_rust::{
    dirty_log::{
        IovaRange,
        IovaRanges, //
    },
    kernel::error, //
};

/// `track_type` of a tracker of pages.
const TRACK_PAGES: u32 = 1;

/// The fields that a request for a report sets: `modify_field_select`.
const SELECT_RANGE_AND_STATE: u64 = 0x3;

/// A PAGE_TRACK object.
pub(super) struct TrackObject {
    pub(super) id: u32,
    /// The QP that it reports through.
    sender: Key,
}

impl TrackObject {
    /// Fills in the header of a command about the object, which is a part of `input`.
    fn about<L, const N: usize>(
        &self,
        input: Mailbox<L, N>,
        header: Part<L, mlx5_ifc_general_obj_in_cmd_hdr_bits>,
        opcode: impl Value,
    ) -> Mailbox<L, N> {
        input
            .set(
                header.field(field!(mlx5_ifc_general_obj_in_cmd_hdr_bits, opcode)),
                opcode,
            )
            .set(
                header.field(field!(mlx5_ifc_general_obj_in_cmd_hdr_bits, obj_type)),
                constant!(MLX5_OBJ_TYPE_PAGE_TRACK),
            )
            .set(
                header.field(field!(mlx5_ifc_general_obj_in_cmd_hdr_bits, obj_id)),
                self.id,
            )
    }
}

impl Resource for TrackObject {
    fn destroy(&self, pf: &PfGuard<'_>) -> Result {
        let mut input = self.about(
            mailbox!(mlx5_ifc_general_obj_in_cmd_hdr_bits),
            Part::WHOLE,
            constant!(MLX5_CMD_OP_DESTROY_GENERAL_OBJECT),
        );
        let mut output = mailbox!(mlx5_ifc_general_obj_out_cmd_hdr_bits);
        pf.execute(&mut input.bytes, &mut output.bytes)
    }

    fn uses(&self) -> Option<Key> {
        Some(self.sender)
    }
}

impl Owned<TrackObject> {
    /// Returns a guard to send commands about the tracker. Returns `EIO` if the PF takes no
    /// commands, or was away: the tracker is gone then.
    fn enter(&self) -> Result<PfGuard<'_>> {
        let pf = Device::enter(self.device()).map_err(|_| EIO)?;
        self.on(&pf).map_err(|_| EIO)?;
        Ok(pf)
    }

    /// Requests a report of the pages in `range` that were written to.
    pub(super) fn request(&self, range: IovaRange) -> Result {
        let mut input = self
            .about(
                mailbox!(mlx5_ifc_modify_page_track_obj_in_bits),
                part!(
                    mlx5_ifc_modify_page_track_obj_in_bits,
                    general_obj_in_cmd_hdr
                ),
                constant!(MLX5_CMD_OP_MODIFY_GENERAL_OBJECT),
            )
            .set(
                field!(
                    mlx5_ifc_modify_page_track_obj_in_bits,
                    obj_context.modify_field_select
                ),
                SELECT_RANGE_AND_STATE,
            )
            .set(
                field!(
                    mlx5_ifc_modify_page_track_obj_in_bits,
                    obj_context.range_start_address
                ),
                range.start,
            )
            .set(
                field!(mlx5_ifc_modify_page_track_obj_in_bits, obj_context.length),
                range.len().ok_or(EINVAL)?,
            )
            .set(
                field!(mlx5_ifc_modify_page_track_obj_in_bits, obj_context.state),
                constant!(MLX5_PAGE_TRACK_STATE_REPORTING),
            );
        let mut output = mailbox!(mlx5_ifc_general_obj_out_cmd_hdr_bits);
        let pf = self.enter()?;
        pf.execute(&mut input.bytes, &mut output.bytes)
    }

    /// Asks firmware whether the tracker has failed.
    pub(super) fn is_in_error(&self) -> Result<bool> {
        let mut input = self.about(
            mailbox!(mlx5_ifc_general_obj_in_cmd_hdr_bits),
            Part::WHOLE,
            constant!(MLX5_CMD_OP_QUERY_GENERAL_OBJECT),
        );
        let mut output = mailbox!(mlx5_ifc_query_page_track_obj_out_bits);
        let pf = self.enter()?;
        pf.execute(&mut input.bytes, &mut output.bytes)?;
        let state = output.get(field!(
            mlx5_ifc_query_page_track_obj_out_bits,
            obj_context.state
        ));
        Ok(state == u64::from(MLX5_PAGE_TRACK_STATE_ERROR))
    }
}

/// Properties of a tracker, besides its ranges.
pub(super) struct TrackContext<'a> {
    pub(super) log_page: u32,
    pub(super) log_message: u32,
    pub(super) sender: &'a QueuePair,
}

/// CREATE_GENERAL_OBJECT. Returns `EOPNOTSUPP` if the ranges are smaller or larger than the device
/// can track.
pub(super) fn create(
    pf: &PfGuard<'_>,
    limits: &TrackLimits,
    ranges: &IovaRanges<'_>,
    context: TrackContext<'_>,
) -> Result<Owned<TrackObject>> {
    let range_bytes = size_of::<bindings::mlx5_ifc_page_track_range_bits>() / 8;
    let mut input = LargeMailbox::new(ranges.len() * range_bytes)?;
    for (mut entry, range) in input.entries().zip(ranges.iter()) {
        // VFIO does not refuse empty ranges.
        let len = range.len().ok_or(EINVAL)?;
        entry.set(
            field!(mlx5_ifc_page_track_range_bits, start_address),
            range.start,
        );
        entry.set(field!(mlx5_ifc_page_track_range_bits, length), len);
    }
    let log_space = limits
        .log_space(ranges.iter().filter_map(IovaRange::len))
        .ok_or_else(error::eopnotsupp)?;
    input.set(
        field!(
            mlx5_ifc_create_page_track_obj_in_bits,
            general_obj_in_cmd_hdr.opcode
        ),
        constant!(MLX5_CMD_OP_CREATE_GENERAL_OBJECT),
    );
    input.set(
        field!(
            mlx5_ifc_create_page_track_obj_in_bits,
            general_obj_in_cmd_hdr.obj_type
        ),
        constant!(MLX5_OBJ_TYPE_PAGE_TRACK),
    );
    input.set(
        field!(mlx5_ifc_create_page_track_obj_in_bits, obj_context.vhca_id),
        pf.device().vhca_id,
    );
    input.set(
        field!(
            mlx5_ifc_create_page_track_obj_in_bits,
            obj_context.track_type
        ),
        constant!(TRACK_PAGES),
    );
    input.try_set(
        field!(
            mlx5_ifc_create_page_track_obj_in_bits,
            obj_context.log_addr_space_size
        ),
        log_space,
    )?;
    input.try_set(
        field!(
            mlx5_ifc_create_page_track_obj_in_bits,
            obj_context.log_page_size
        ),
        context.log_page,
    )?;
    input.try_set(
        field!(
            mlx5_ifc_create_page_track_obj_in_bits,
            obj_context.log_msg_size
        ),
        context.log_message,
    )?;
    input.try_set(
        field!(
            mlx5_ifc_create_page_track_obj_in_bits,
            obj_context.reporting_qpn
        ),
        context.sender.number(),
    )?;
    input.try_set(
        field!(
            mlx5_ifc_create_page_track_obj_in_bits,
            obj_context.num_ranges
        ),
        u32::try_from(ranges.len())?,
    )?;
    Owned::new(pf, |pf| {
        let mut output = mailbox!(mlx5_ifc_general_obj_out_cmd_hdr_bits);
        pf.execute(&mut input.bytes, &mut output.bytes)?;
        let id = output.get(field!(mlx5_ifc_general_obj_out_cmd_hdr_bits, obj_id));
        Ok(TrackObject {
            // CAST: The field has 32 bits.
            id: id as u32,
            sender: context.sender.key(),
        })
    })
}

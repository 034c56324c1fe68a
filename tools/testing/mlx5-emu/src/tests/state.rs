// SPDX-License-Identifier: GPL-2.0

//! What a VF remembers.

use crate::{
    image::{
        self,
        Content,
        Image,
        Refused, //
    },
    records::{
        Key,
        Kind,
        Part, //
    },
    state::{
        Command,
        VfState,
        PAGE_LEN, //
    },
};
use mlx5_emu_regs::{
    pattern,
    scatter_page, //
};

const KEY: Key = Key {
    kind: Kind::Sq,
    number: 5,
};
const SIZE: u64 = 16 * PAGE_LEN as u64;

#[test]
fn two_fresh_vfs_are_the_same_and_every_part_counts() {
    let mut fresh = VfState::new(SIZE);
    assert_eq!(fresh.digest(), VfState::new(SIZE).digest());
    let changes: [fn(&mut VfState); 5] = [
        |state| state.seq += 1,
        |state| state.irqs += 1,
        |state| state.dma_bytes += 8,
        |state| state.scratch[7] = 1,
        |state| {
            let mut page = Box::new(*state.page(15));
            page[PAGE_LEN - 1] ^= 1;
            state.set_page(15, page);
        },
    ];
    for change in changes {
        let mut state = VfState::new(SIZE);
        change(&mut state);
        assert_ne!(state.digest(), fresh.digest());
    }
}

#[test]
fn a_digest_that_is_known_does_not_stay() {
    let mut state = VfState::new(SIZE);
    let fresh = state.digest();
    let power_on = Box::new(*state.page(3));
    state.set_page(3, Box::new([7; PAGE_LEN]));
    assert_ne!(state.digest(), fresh);
    state.set_page(3, power_on);
    assert_eq!(state.digest(), fresh);
}

#[test]
fn work_is_deterministic() {
    let work = || {
        let mut state = VfState::new(SIZE);
        for seq in 1..20 {
            state.seq = seq;
            state.rewrite(seq * 5, 3);
        }
        state.digest()
    };
    assert_eq!(work(), work());
}

#[test]
fn only_what_has_changed_is_dirty() {
    let mut state = VfState::new(SIZE);
    state.rewrite(0, 2);
    assert!(state.dirty().is_none());
    state.track(true);
    assert!(state.dirty().unwrap().is_empty());
    // Around the end of the table.
    state.rewrite(15, 2);
    assert_eq!(
        state.dirty().unwrap().iter().copied().collect::<Vec<_>>(),
        [0, 15]
    );
    let image = image::save(&state, &content(Some(vec![0, 15])));
    let parts = 2 * Part::HEADER + 4;
    assert_eq!(image.len() as u64, image::partial_len(2) + parts as u64);
}

fn content(pages: Option<Vec<u64>>) -> Content {
    Content {
        capabilities: 7,
        begins: pages.is_none(),
        pages,
        parts: vec![Part::whole(KEY, b"four"), Part::Gone(KEY)],
        more: true,
    }
}

#[test]
fn an_image_for_another_vf_is_refused() {
    let image = image::save(&VfState::new(SIZE), &content(None));
    let parse = |size, capabilities| {
        let state = VfState::new(size);
        Image::parse(&state, capabilities, &image).map(|image| image.more)
    };
    assert_eq!(parse(SIZE, 7), Ok(true));
    assert_eq!(parse(SIZE * 2, 7), Err(Refused::StateSize));
    assert_eq!(parse(SIZE, 8), Err(Refused::Capabilities));
}

#[test]
fn an_image_has_parts_of_records() {
    let state = VfState::new(SIZE);
    for pages in [None, Some(vec![]), Some(vec![3])] {
        let mut content = content(pages);
        if content.pages == Some(vec![3]) {
            content.begins = true;
        }
        let bytes = image::save(&state, &content);
        let image = Image::parse(&state, 7, &bytes).unwrap();
        assert_eq!(image.parts, content.parts);
        assert_eq!(image.begins, content.begins);
        // Shorter, and the digest is of another image.
        for len in (0..bytes.len()).step_by(97) {
            assert!(Image::parse(&state, 7, &bytes[..len]).is_err());
        }
    }
}

#[test]
fn patterns_differ_by_sequence_and_address() {
    assert_ne!(pattern(1, 0x1000), pattern(2, 0x1000));
    assert_ne!(pattern(1, 0x1000), pattern(1, 0x1008));
    assert!((0..1000).all(|i| scatter_page(7, i, 13) < 13));
}

#[test]
fn a_command_goes_on_where_its_arguments_were_written() {
    let mut state = VfState::new(SIZE);
    state.command = Command {
        args: [1, 2, 3, u64::MAX],
        status: 4,
        digest: 5,
    };
    for pages in [None, Some(vec![])] {
        let image = image::save(&state, &content(pages));
        let mut other = VfState::new(SIZE);
        Image::parse(&state, 7, &image).unwrap().load(&mut other);
        assert_eq!(other.command, state.command);
    }
}

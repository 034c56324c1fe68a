// SPDX-License-Identifier: GPL-2.0

use crate::{
    gate::{
        Closed,
        Gate, //
    },
    in_every_order, //
};
use kernel::sync::{
    pin_arc,
    Arc, //
};
use loom::{
    sync::atomic::{
        AtomicUsize,
        Ordering::SeqCst, //
    },
    thread, //
};
use std::pin::Pin;

fn gate() -> Pin<Arc<Gate>> {
    pin_arc(Gate::new())
}

/// A command of the PF, if the gate admits one. `commands` counts those under way.
fn pf_command(gate: &Gate, commands: &AtomicUsize) {
    if gate.enter_pf().is_ok() {
        commands.fetch_add(1, SeqCst);
        thread::yield_now();
        commands.fetch_sub(1, SeqCst);
        gate.leave_pf();
    }
}

/// Closes the gate, and destroys what lives on the PF if this has closed it. Returns when
/// nothing lives there, whichever thread has destroyed it.
fn detach(gate: &Gate, alive: &AtomicUsize) {
    if gate.close_pf() {
        alive.fetch_sub(1, SeqCst);
        gate.leave_pf();
    }
    assert_eq!(
        alive.load(SeqCst),
        0,
        "the PF goes while something lives on it"
    );
}

#[test]
fn a_closed_gate_has_waited_for_commands() {
    in_every_order(|| {
        let (gate, commands) = (gate(), Arc::new(AtomicUsize::new(0)));
        let sender = thread::spawn({
            let (gate, commands) = (gate.clone(), commands.clone());
            move || pf_command(&gate, &commands)
        });
        assert!(gate.close_pf());
        assert_eq!(commands.load(SeqCst), 0);
        assert_eq!(gate.enter_pf(), Err(Closed::Pf));
        gate.leave_pf();
        sender.join().unwrap();
    });
}

#[test]
fn whoever_finds_the_gate_closed_waits_for_whoever_closed_it() {
    in_every_order(|| {
        let (gate, alive) = (gate(), Arc::new(AtomicUsize::new(1)));
        let unbind = thread::spawn({
            let (gate, alive) = (gate.clone(), alive.clone());
            move || {
                gate.end();
                detach(&gate, &alive);
            }
        });
        detach(&gate, &alive);
        unbind.join().unwrap();
        gate.open_pf();
        assert_eq!(gate.enter_pf(), Err(Closed::Pf), "it has ended");
    });
}

#[test]
fn two_who_close_both_wait_for_a_command() {
    in_every_order(|| {
        let (gate, alive) = (gate(), Arc::new(AtomicUsize::new(1)));
        let commands = Arc::new(AtomicUsize::new(0));
        let sender = thread::spawn({
            let (gate, commands) = (gate.clone(), commands.clone());
            move || pf_command(&gate, &commands)
        });
        let unbind = thread::spawn({
            let (gate, alive) = (gate.clone(), alive.clone());
            move || detach(&gate, &alive)
        });
        detach(&gate, &alive);
        assert_eq!(commands.load(SeqCst), 0);
        unbind.join().unwrap();
        sender.join().unwrap();
    });
}

#[test]
fn no_command_of_before_a_reset_reaches_the_vf_after_it() {
    in_every_order(|| {
        let gate = gate();
        let epoch = gate.epoch();
        // 0: commands may be sent. 1: the VF was reset.
        let reset = Arc::new(AtomicUsize::new(0));
        let sender = thread::spawn({
            let (gate, reset) = (gate.clone(), reset.clone());
            move || match gate.enter_vf(epoch) {
                Ok(()) => {
                    assert_eq!(reset.load(SeqCst), 0);
                    gate.leave_vf();
                }
                Err(closed) => assert_eq!(closed, Closed::Reset),
            }
        });
        gate.close_vf();
        reset.store(1, SeqCst);
        gate.open_vf();
        assert_eq!(gate.enter_vf(gate.epoch()), Ok(()));
        gate.leave_vf();
        sender.join().unwrap();
    });
}

#[test]
fn a_reset_and_a_reload_at_once_both_end() {
    in_every_order(|| {
        let gate = gate();
        let epoch = gate.epoch();
        let reset = thread::spawn({
            let gate = gate.clone();
            move || {
                gate.close_vf();
                gate.open_vf();
            }
        });
        let sender = thread::spawn({
            let gate = gate.clone();
            move || {
                if gate.enter_vf(epoch).is_ok() {
                    gate.leave_vf();
                }
            }
        });
        assert!(gate.close_pf());
        gate.leave_pf();
        gate.open_pf();
        reset.join().unwrap();
        sender.join().unwrap();
        assert_eq!(gate.enter_vf(gate.epoch()), Ok(()));
        assert_eq!(gate.enter_vf(epoch), Err(Closed::Reset));
    });
}

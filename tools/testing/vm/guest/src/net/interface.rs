// SPDX-License-Identifier: GPL-2.0

//! A guest's interface, and what is done to it while it is used.

use super::{
    connection::GUEST,
    control, //
};
use crate::{
    hca,
    sys, //
};
use anyhow::{
    ensure,
    Result, //
};
use std::{
    sync::{
        PoisonError,
        RwLock,
        RwLockReadGuard,
        RwLockWriteGuard, //
    },
    thread,
    time::{
        Duration,
        Instant, //
    },
};
use vfio_mig::bdf::Bdf;

/// How long driver and link may take.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(20);
/// MTUs. What the peer sends fits into both.
const MTUS: [i32; 2] = [1500, 1440];
/// How long the interface stays down.
const DOWN: Duration = Duration::from_millis(200);
/// What drives it.
const DRIVER: &str = "mlx5_core";

/// What a guest can be told to do to its interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// `ip link set down`, and up.
    Link,
    /// Another MTU.
    Mtu,
    /// Another number of queues: `ethtool -L`.
    Channels,
    /// Take the driver from the VF, and give it back.
    Driver,
    /// Leave it alone until [`Self::Renewed`]: its VF will be reset. Only streams and datagrams
    /// go on.
    Hold,
    /// Take the one that the driver makes instead: the VF was reset, and the driver begins anew.
    Renewed,
}

impl Change {
    const ALL: [Self; 6] = [
        Self::Link,
        Self::Mtu,
        Self::Channels,
        Self::Driver,
        Self::Hold,
        Self::Renewed,
    ];

    /// The order to do it. With its newline it must fit into the FIFO of an UART, 16 bytes: QEMU
    /// drops what is left of it when the sender has closed the connection.
    pub fn order(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Mtu => "mtu",
            Self::Channels => "queues",
            Self::Driver => "driver",
            Self::Hold => "hold",
            Self::Renewed => "renewed",
        }
    }

    /// The change with this order.
    pub fn ordered(order: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.order() == order)
    }
}

/// Waits until something can be had.
fn wait_for<T>(what: &str, get: impl Fn() -> Result<T>) -> Result<T> {
    let end = Instant::now() + PATIENCE;
    loop {
        match get() {
            Err(err) if Instant::now() > end => return Err(err.context(what.to_string())),
            Err(_) => thread::sleep(POLL),
            got => return got,
        }
    }
}

/// What an interface is now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Now {
    /// Its name.
    pub name: String,
    /// How many there were before it: what it was told is lost with the one before.
    pub generation: u32,
    /// Its index, if it is to be left alone.
    pub held: Option<u32>,
}

/// The interface of a VF.
pub struct Interface {
    vf: Bdf,
    now: RwLock<Now>,
}

impl Interface {
    /// That of a VF, when its driver has made it.
    pub fn of(vf: Bdf) -> Result<Self> {
        let name = wait_for("the interface", || hca::interface(vf))?;
        Ok(Self {
            vf,
            now: RwLock::new(Now {
                name,
                generation: 0,
                held: None,
            }),
        })
    }

    /// It is not taken down while this is held.
    pub fn used(&self) -> RwLockReadGuard<'_, Now> {
        self.now.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`Self::used`], unless it is to be left alone.
    pub fn usable(&self) -> Option<RwLockReadGuard<'_, Now>> {
        Some(self.used()).filter(|now| now.held.is_none())
    }

    /// Whether it is to be left alone.
    pub fn is_held(&self) -> bool {
        self.usable().is_none()
    }

    /// Nobody uses it while this is held.
    fn unused(&self) -> RwLockWriteGuard<'_, Now> {
        self.now.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Turns it on, with the guest's address, and waits for its link.
    pub fn turn_on(&self) -> Result<()> {
        turn_on(&self.used().name)
    }

    /// Sets the other MTU.
    pub fn change_mtu(&self) -> Result<()> {
        let now = self.used();
        let mtu = sys::mtu(&now.name)?;
        let other = MTUS.into_iter().find(|one| *one != mtu);
        Ok(sys::set_mtu(&now.name, other.unwrap_or(mtu))?)
    }

    fn change_channels(&self) -> Result<()> {
        let now = self.used();
        let [all, most] = control::channels(&now.name)?;
        ensure!(most > 1, "{} can have only one queue", now.name);
        let other = if all > 1 { 1 } else { most };
        control::set_channels(&now.name, other)?;
        let [all, _] = control::channels(&now.name)?;
        ensure!(all == other, "{} has {all} queues", now.name);
        Ok(())
    }

    fn turn_off_and_on(&self) -> Result<()> {
        let now = self.unused();
        sys::set_interface_flags(&now.name, libc::IFF_UP, false)?;
        thread::sleep(DOWN);
        sys::set_interface_flags(&now.name, libc::IFF_UP, true)?;
        wait_for_link(&now.name)
    }

    fn rebind(&self) -> Result<()> {
        let mut now = self.unused();
        hca::unbind(self.vf)?;
        hca::bind_to(self.vf, DRIVER)?;
        now.name = wait_for("the interface", || hca::interface(self.vf))?;
        now.generation += 1;
        turn_on(&now.name)
    }

    fn hold(&self) -> Result<()> {
        let mut now = self.unused();
        now.held = Some(sys::interface_index(&now.name)?);
        Ok(())
    }

    fn take_another(&self) -> Result<()> {
        let mut now = self.unused();
        now.name = wait_for("another interface", || {
            let name = hca::interface(self.vf)?;
            let index = sys::interface_index(&name)?;
            ensure!(now.held != Some(index), "{name} is the same");
            Ok(name)
        })?;
        turn_on(&now.name)?;
        now.generation += 1;
        now.held = None;
        Ok(())
    }

    /// Does this to it. It is up afterwards.
    pub fn change(&self, change: Change) -> Result<()> {
        match change {
            Change::Link => self.turn_off_and_on(),
            Change::Mtu => self.change_mtu(),
            Change::Channels => self.change_channels(),
            Change::Driver => self.rebind(),
            Change::Hold => self.hold(),
            Change::Renewed => self.take_another(),
        }?;
        wait_for_link(&self.used().name)
    }
}

fn turn_on(name: &str) -> Result<()> {
    sys::set_address(name, GUEST)?;
    sys::set_interface_flags(name, libc::IFF_UP, true)?;
    wait_for_link(name)
}

fn wait_for_link(name: &str) -> Result<()> {
    wait_for("its link", || {
        let running = sys::interface_flags(name)? & libc::IFF_RUNNING != 0;
        ensure!(running, "{name} has no link");
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_held_is_not_usable() {
        let interface = Interface {
            vf: "0000:01:00.1".parse().unwrap(),
            now: RwLock::new(Now {
                name: "lo".to_string(),
                generation: 0,
                held: None,
            }),
        };
        assert!(interface.usable().is_some() && !interface.is_held());
        interface.hold().unwrap();
        assert!(interface.usable().is_none() && interface.is_held());
        assert_eq!(interface.used().held, Some(1));
    }

    #[test]
    fn orders_are_told_apart() {
        for change in Change::ALL {
            assert_eq!(Change::ordered(change.order()), Some(change));
            assert!(change.order().len() < 16);
        }
        assert_eq!(Change::ordered("stop"), None);
    }
}

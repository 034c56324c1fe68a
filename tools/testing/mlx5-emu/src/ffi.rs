// SPDX-License-Identifier: GPL-2.0

//! The model for C: what the QEMU shim calls, and what it must provide.
//!
//! `shim/mlx5-emu.h` declares the same for C.

use crate::{
    config::Config,
    faults::Faults,
    hca::Hca,
    host::{
        DmaFault,
        FunctionId,
        Host, //
    },
    log::CommandRecord,
    vport::Mac, //
};
use std::{
    cell::RefCell,
    collections::VecDeque,
    ffi::{
        c_char,
        c_int,
        c_void,
        CStr, //
    },
    fs::File,
    io::Write, //
};

/// The shim's side of [`Host`].
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Callbacks {
    /// The shim's device.
    pub opaque: *mut c_void,
    /// Reads or writes memory as a function; 0 if it went well.
    pub dma: unsafe extern "C" fn(*mut c_void, u16, u64, *mut c_void, u64, bool) -> c_int,
    /// Whether a function is a bus master.
    pub is_bus_master: unsafe extern "C" fn(*mut c_void, u16) -> bool,
    /// Raises an MSI-X vector of a function.
    pub interrupt: unsafe extern "C" fn(*mut c_void, u16, u16),
    /// Nanoseconds of virtual time.
    pub now: unsafe extern "C" fn(*mut c_void) -> u64,
    /// Sets the one timer.
    pub wake_at: unsafe extern "C" fn(*mut c_void, u64),
    /// Sends a frame of some bytes over the wire.
    pub send: unsafe extern "C" fn(*mut c_void, *const u8, u64),
}

/// The properties of the device.
#[repr(C)]
pub struct Properties {
    /// Number of VFs.
    pub vfs: u16,
    /// MSI-X vectors of each VF.
    pub vf_vectors: u16,
    pub init_pages: u32,
    /// Whether the port is connected to a network.
    pub network: bool,
    /// Its address, then.
    pub mac: Mac,
    /// Bytes of state.
    pub state_size: u64,
    /// Bytes of a chunk, or 0.
    pub chunk_size: u64,
    /// Whether each chunk is larger than the one before.
    pub chunks_grow: bool,
    /// Bytes that a SAVE counts and does not write.
    pub save_unwritten: u32,
    /// Whether firmware tells of a new initial state.
    pub migration_state: bool,
    /// Milliseconds that a driver is to wait for a command, or 0.
    pub command_timeout_ms: u32,
    /// Microseconds of any command.
    pub command_us: u64,
    /// Whether commands take the time that an adapter was seen to take.
    pub recorded_times: bool,
    /// Microseconds before a report of dirty pages.
    pub report_us: u64,
    /// Microseconds between the messages of a report.
    pub message_us: u64,
    /// How often a message is tried again at once.
    pub rnr_retries: u32,
    /// How often a report has each page.
    pub page_repeats: u16,
    /// Most bytes of a message, as a shift.
    pub log_max_message: u8,
    /// Most page trackers.
    pub trackers: u16,
    /// Largest page of an mkey, as a shift.
    pub log_max_mkey_page: u8,
    /// Microseconds of SUSPEND_VHCA.
    pub suspend_us: u64,
    /// Microseconds of RESUME_VHCA.
    pub resume_us: u64,
    /// Microseconds for a MiB of SAVE_VHCA_STATE.
    pub save_us_per_mib: u64,
    /// Microseconds for a MiB of LOAD_VHCA_STATE.
    pub load_us_per_mib: u64,
    /// Faults, as [`Faults::parse`] has them, or null.
    pub faults: *const c_char,
    /// Where commands are logged, or null.
    pub event_log: *const c_char,
    /// Where violations are logged, or null.
    pub violations_log: *const c_char,
}

struct Shim {
    callbacks: Callbacks,
    event_log: Option<File>,
    violations_log: Option<File>,
    /// When the timer is set to, so that a later wish does not undo it.
    wake: Option<u64>,
}

struct Model {
    hca: Hca,
    shim: Shim,
}

/// What comes while the model is being called.
enum Posted {
    /// A write to a BAR.
    Write {
        function: FunctionId,
        offset: u64,
        value: u32,
    },
    /// A frame from the wire.
    Frame(Vec<u8>),
}

/// More than that is not kept: a page of a function's DMA has 1024 writes.
const MAX_POSTED: usize = 1 << 16;

/// A model, and its way to the shim.
///
/// The DMA of a function may go to a BAR of another one. The shim calls back then, while
/// the model still does the DMA: writes are posted until that is over, as on a bus, and a
/// read is answered as one that nobody takes. So may a frame come that such a write has
/// another HCA send.
pub struct Device {
    model: RefCell<Model>,
    posted: RefCell<VecDeque<Posted>>,
}

impl Device {
    /// Calls the model, and then what was posted while it ran. Returns `None` if the model
    /// is being called.
    fn call<R>(&self, f: impl FnOnce(&mut Model) -> R) -> Option<R> {
        let result = f(&mut *self.model.try_borrow_mut().ok()?);
        loop {
            // Not in the condition, where it would be borrowed until the end.
            let next = self.posted.borrow_mut().pop_front();
            let Some(posted) = next else { break };
            let Model { hca, shim } = &mut *self.model.borrow_mut();
            match posted {
                Posted::Write {
                    function,
                    offset,
                    value,
                } => hca.write(shim, function, offset, value),
                Posted::Frame(frame) => hca.frame_arrived(shim, &frame),
            }
        }
        Some(result)
    }

    fn post(&self, what: Posted) {
        let mut posted = self.posted.borrow_mut();
        if posted.len() < MAX_POSTED {
            posted.push_back(what);
        }
    }
}

impl Host for Shim {
    fn dma_read(
        &mut self,
        function: FunctionId,
        addr: u64,
        buf: &mut [u8],
    ) -> Result<(), DmaFault> {
        let len = buf.len() as u64;
        // SAFETY: The shim writes to `len` bytes of `buf`, no more.
        let failed = unsafe {
            (self.callbacks.dma)(
                self.callbacks.opaque,
                function.0,
                addr,
                buf.as_mut_ptr().cast(),
                len,
                false,
            )
        };
        if failed == 0 {
            Ok(())
        } else {
            Err(DmaFault)
        }
    }

    fn dma_write(&mut self, function: FunctionId, addr: u64, buf: &[u8]) -> Result<(), DmaFault> {
        // SAFETY: The shim only reads `buf` when it is to write memory.
        let failed = unsafe {
            (self.callbacks.dma)(
                self.callbacks.opaque,
                function.0,
                addr,
                buf.as_ptr().cast_mut().cast(),
                buf.len() as u64,
                true,
            )
        };
        if failed == 0 {
            Ok(())
        } else {
            Err(DmaFault)
        }
    }

    fn is_bus_master(&mut self, function: FunctionId) -> bool {
        // SAFETY: The shim only reads a register of its device.
        unsafe { (self.callbacks.is_bus_master)(self.callbacks.opaque, function.0) }
    }

    fn interrupt(&mut self, function: FunctionId, vector: u16) {
        // SAFETY: Just a call.
        unsafe { (self.callbacks.interrupt)(self.callbacks.opaque, function.0, vector) }
    }

    fn now(&mut self) -> u64 {
        // SAFETY: Just a call.
        unsafe { (self.callbacks.now)(self.callbacks.opaque) }
    }

    fn wake_at(&mut self, time: u64) {
        if self.wake.is_none_or(|wake| time < wake) {
            self.wake = Some(time);
            // SAFETY: Just a call.
            unsafe { (self.callbacks.wake_at)(self.callbacks.opaque, time) }
        }
    }

    fn send_frame(&mut self, frame: &[u8]) {
        // SAFETY: The shim reads the bytes of `frame`, no more, and only now.
        unsafe {
            (self.callbacks.send)(self.callbacks.opaque, frame.as_ptr(), frame.len() as u64);
        }
    }

    fn log_command(&mut self, record: &CommandRecord) {
        if let Some(log) = &mut self.event_log {
            // A log that cannot be written must not stop the machine.
            let _ = writeln!(log, "{record}");
        }
    }

    fn log_violation(&mut self, function: FunctionId, what: &str) {
        let now = self.now();
        if let Some(log) = &mut self.violations_log {
            let _ = writeln!(log, "{now} fn={} {what}", function.0);
        }
    }
}

/// # Safety
///
/// `path` is null or a C string.
unsafe fn open_log(path: *const c_char) -> Option<File> {
    if path.is_null() {
        return None;
    }
    // SAFETY: By the requirements of this function.
    let path = unsafe { CStr::from_ptr(path) }.to_str().ok()?;
    // What a device of before has written there stays: a PF can be unplugged, and plugged in again.
    match File::options().append(true).create(true).open(path) {
        Ok(file) => Some(file),
        Err(err) => {
            eprintln!("mlx5-emu: cannot write {path}: {err}");
            None
        }
    }
}

/// # Safety
///
/// `text` is null or a C string.
unsafe fn parse_faults(text: *const c_char) -> Option<Faults> {
    if text.is_null() {
        return Some(Faults::default());
    }
    // SAFETY: By the requirements of this function.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    Faults::parse(&text)
        .inspect_err(|err| eprintln!("mlx5-emu: faults: {err}"))
        .ok()
}

/// Makes a device, or returns null if a property has a value that is none.
///
/// # Safety
///
/// `properties` must be valid during the call; the functions of `callbacks`
/// must be callable until [`mlx5_emu_free`].
#[no_mangle]
pub unsafe extern "C" fn mlx5_emu_new(
    properties: &Properties,
    callbacks: Callbacks,
) -> *mut Device {
    // SAFETY: `properties` is valid, and so are its strings.
    let Some(faults) = (unsafe { parse_faults(properties.faults) }) else {
        return std::ptr::null_mut();
    };
    let us = |us: u64| us.saturating_mul(1000);
    let config = Config {
        vfs: properties.vfs,
        vf_vectors: properties.vf_vectors,
        init_pages: properties.init_pages,
        network: properties.network.then_some(properties.mac),
        state_size: properties.state_size,
        chunk_size: properties.chunk_size,
        chunks_grow: properties.chunks_grow,
        save_unwritten: properties.save_unwritten,
        migration_state: properties.migration_state,
        command_timeout_ms: properties.command_timeout_ms,
        command_ns: us(properties.command_us),
        recorded_times: properties.recorded_times,
        report_ns: us(properties.report_us),
        message_ns: us(properties.message_us),
        rnr_retries: properties.rnr_retries,
        page_repeats: properties.page_repeats,
        log_max_message: properties.log_max_message,
        trackers: properties.trackers,
        log_max_mkey_page: properties.log_max_mkey_page,
        suspend_ns: us(properties.suspend_us),
        resume_ns: us(properties.resume_us),
        save_ns_per_mib: us(properties.save_us_per_mib),
        load_ns_per_mib: us(properties.load_us_per_mib),
    };
    let shim = Shim {
        callbacks,
        // SAFETY: By the requirements of this function.
        event_log: unsafe { open_log(properties.event_log) },
        // SAFETY: By the requirements of this function.
        violations_log: unsafe { open_log(properties.violations_log) },
        wake: None,
    };
    let mut hca = Hca::new(config);
    hca.faults = faults;
    Box::into_raw(Box::new(Device {
        model: RefCell::new(Model { hca, shim }),
        posted: RefCell::default(),
    }))
}

/// Ends a device.
///
/// # Safety
///
/// `device` is from [`mlx5_emu_new`] and not used any more.
#[no_mangle]
pub unsafe extern "C" fn mlx5_emu_free(device: *mut Device) {
    // SAFETY: By the requirements of this function.
    drop(unsafe { Box::from_raw(device) });
}

/// Reads 4 bytes of BAR 0.
#[no_mangle]
pub extern "C" fn mlx5_emu_read(device: &Device, function: u16, offset: u64) -> u32 {
    let read = |Model { hca, shim }: &mut Model| hca.read(shim, FunctionId(function), offset);
    device.call(read).unwrap_or(u32::MAX)
}

/// Writes 4 bytes of BAR 0.
#[no_mangle]
pub extern "C" fn mlx5_emu_write(device: &Device, function: u16, offset: u64, value: u32) {
    let function = FunctionId(function);
    let written = device.call(|Model { hca, shim }| hca.write(shim, function, offset, value));
    if written.is_none() {
        device.post(Posted::Write {
            function,
            offset,
            value,
        });
    }
}

/// Reads 4 bytes of the PF's control capability.
#[no_mangle]
pub extern "C" fn mlx5_emu_control_read(device: &Device, offset: u64) -> u32 {
    let read = |model: &mut Model| model.hca.control_read(offset);
    device.call(read).unwrap_or(u32::MAX)
}

/// Writes 4 bytes of the PF's control capability. The DMA of functions does not get there.
#[no_mangle]
pub extern "C" fn mlx5_emu_control_write(device: &Device, offset: u64, value: u32) {
    device.call(|Model { hca, shim }| hca.control_write(shim, offset, value));
}

/// A function was reset.
#[no_mangle]
pub extern "C" fn mlx5_emu_reset(device: &Device, function: u16) {
    device.call(|Model { hca, shim }| {
        hca.reset(FunctionId(function));
        hca.tell_changes(shim);
    });
}

/// A frame has come over the wire.
///
/// # Safety
///
/// `frame` must be valid for reads of `len` bytes.
#[no_mangle]
pub unsafe extern "C" fn mlx5_emu_receive(device: &Device, frame: *const u8, len: usize) {
    // SAFETY: By the requirements of this function.
    let frame = unsafe { std::slice::from_raw_parts(frame, len) };
    let arrived = device.call(|Model { hca, shim }| hca.frame_arrived(shim, frame));
    if arrived.is_none() {
        device.post(Posted::Frame(frame.to_vec()));
    }
}

/// The other end of the wire has come or gone.
#[no_mangle]
pub extern "C" fn mlx5_emu_set_link(device: &Device, up: bool) {
    device.call(|Model { hca, shim }| hca.set_link(shim, up));
}

/// The timer has fired.
#[no_mangle]
pub extern "C" fn mlx5_emu_timer(device: &Device) {
    device.call(|Model { hca, shim }| {
        shim.wake = None;
        hca.timer(shim);
    });
}

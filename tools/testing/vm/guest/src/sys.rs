// SPDX-License-Identifier: GPL-2.0

//! System calls that only an init needs.

use std::{ffi::CString, fs::File, io, os::fd::AsRawFd};

fn check(ret: libc::c_int) -> io::Result<()> {
    if ret < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn c_string(text: &str) -> io::Result<CString> {
    Ok(CString::new(text)?)
}

/// Mounts a file system without a device.
pub fn mount(kind: &str, at: &str) -> io::Result<()> {
    std::fs::create_dir_all(at)?;
    let (kind, at) = (c_string(kind)?, c_string(at)?);
    // SAFETY: All pointers are C strings, or null where that is allowed.
    check(unsafe {
        libc::mount(
            kind.as_ptr(),
            at.as_ptr(),
            kind.as_ptr(),
            0,
            std::ptr::null(),
        )
    })
}

/// A parameter of the kernel's command line.
pub fn kernel_parameter(name: &str) -> io::Result<Option<String>> {
    let line = std::fs::read_to_string("/proc/cmdline")?;
    let mut words = line.split_whitespace();
    let value = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    Ok(value.map(str::to_string))
}

/// Loads a module from a file.
pub fn load_module(path: &str, params: &str) -> io::Result<()> {
    let file = File::open(path)?;
    let params = c_string(params)?;
    // SAFETY: The file is open and the parameters are a C string.
    check(
        unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), params.as_ptr(), 0) }
            as libc::c_int,
    )
}

/// Unloads a module.
pub fn unload_module(name: &str) -> io::Result<()> {
    let name = c_string(name)?;
    // SAFETY: The name is a C string.
    check(
        unsafe { libc::syscall(libc::SYS_delete_module, name.as_ptr(), libc::O_NONBLOCK) }
            as libc::c_int,
    )
}

/// Turns the machine off.
pub fn power_off() -> ! {
    // SAFETY: Just system calls.
    unsafe {
        libc::sync();
        libc::reboot(libc::RB_POWER_OFF);
    }
    loop {
        std::thread::park();
    }
}

/// write() from an address that may not be ours.
pub fn write_raw(file: &File, addr: usize, len: usize) -> io::Result<usize> {
    // SAFETY: The kernel checks the address.
    let n = unsafe { libc::write(file.as_raw_fd(), addr as *const libc::c_void, len) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// read() to an address that may not be ours. `addr` must not be memory that
/// this process uses.
pub fn read_raw(file: &File, addr: usize, len: usize) -> io::Result<usize> {
    // SAFETY: The kernel checks the address; by the requirement above nothing
    // is overwritten.
    let n = unsafe { libc::read(file.as_raw_fd(), addr as *mut libc::c_void, len) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// lseek() from the beginning.
pub fn seek(file: &File, to: i64) -> io::Result<()> {
    // SAFETY: Just a system call.
    check(unsafe { libc::lseek(file.as_raw_fd(), to, libc::SEEK_SET) } as libc::c_int)
}

/// ioctl() with an address that may not be ours. `addr` must not be memory that
/// this process uses.
pub fn ioctl_raw(file: &File, number: libc::c_ulong, addr: usize) -> io::Result<i32> {
    // SAFETY: The kernel checks the address; by the requirement above nothing
    // is overwritten.
    let ret = unsafe { libc::ioctl(file.as_raw_fd(), number, addr) };
    check(ret).map(|()| ret)
}

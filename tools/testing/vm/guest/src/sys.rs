// SPDX-License-Identifier: GPL-2.0

//! System calls that only an init needs.

use std::{
    ffi::{
        CStr,
        CString, //
    },
    fs::File,
    hint,
    io::{
        self,
        Read,
        Write, //
    },
    net::{
        Ipv4Addr,
        UdpSocket, //
    },
    os::{
        fd::{
            AsRawFd,
            BorrowedFd,
            FromRawFd,
            OwnedFd, //
        },
        unix::{
            net::UnixStream,
            process::CommandExt, //
        },
    },
    process::Command,
    ptr,
    sync::mpsc,
    time::Duration, //
};

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

/// Mounts a file system.
pub fn mount_from(
    source: &str,
    kind: &str,
    at: &str,
    flags: libc::c_ulong,
    options: Option<&str>,
) -> io::Result<()> {
    std::fs::create_dir_all(at)?;
    let [source, kind, at] = [c_string(source)?, c_string(kind)?, c_string(at)?];
    let options = options.map(c_string).transpose()?;
    // SAFETY: All pointers are C strings, or null where that is allowed.
    check(unsafe {
        libc::mount(
            source.as_ptr(),
            at.as_ptr(),
            kind.as_ptr(),
            flags,
            options.as_ref().map_or(ptr::null(), |o| o.as_ptr().cast()),
        )
    })
}

/// Mounts a file system without a device.
pub fn mount(kind: &str, at: &str) -> io::Result<()> {
    mount_from(kind, kind, at, 0, None)
}

/// Takes a file system away, though it may still be in use.
pub fn unmount(at: &str) -> io::Result<()> {
    let at = c_string(at)?;
    // SAFETY: The pointer is a C string.
    check(unsafe { libc::umount2(at.as_ptr(), libc::MNT_DETACH) })
}

/// Makes a special file: its kind and mode, and the device's numbers.
pub fn make_node(at: &str, mode: libc::mode_t, major: u32, minor: u32) -> io::Result<()> {
    let at = c_string(at)?;
    // SAFETY: The pointer is a C string.
    check(unsafe { libc::mknod(at.as_ptr(), mode, libc::makedev(major, minor)) })
}

/// Mounts a folder at another place.
pub fn mount_folder(from: &str, at: &str) -> io::Result<()> {
    mount_from(from, "none", at, libc::MS_BIND, None)
}

/// A command of another root file system.
pub fn command_in(root: &'static str, program: &str) -> Command {
    let mut command = Command::new(program);
    // SAFETY: Between fork and exec there are just two system calls; for paths as
    // short as these std allocates nothing.
    unsafe {
        command.pre_exec(move || {
            std::os::unix::fs::chroot(root)?;
            std::env::set_current_dir("/")
        });
    }
    command
}

/// A parameter of the kernel's command line.
pub fn kernel_parameter(name: &str) -> io::Result<Option<String>> {
    let line = std::fs::read_to_string("/proc/cmdline")?;
    let mut words = line.split_whitespace();
    let value = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    Ok(value.map(str::to_string))
}

/// What the kernel's command line has for a module: "module.parameter=value", as
/// modprobe takes it.
pub fn module_parameters(module: &str) -> io::Result<String> {
    let line = std::fs::read_to_string("/proc/cmdline")?;
    let words = line.split_whitespace();
    let of_module = words.filter_map(|word| word.strip_prefix(module)?.strip_prefix('.'));
    Ok(of_module.collect::<Vec<_>>().join(" "))
}

/// Seed of the random choices of this run.
pub fn seed() -> io::Result<u64> {
    let seed = kernel_parameter("vmtest.seed")?.and_then(|seed| seed.parse().ok());
    seed.ok_or_else(|| io::Error::other("no number in vmtest.seed="))
}

/// How long something goes on that has no end of its own: in `make check` and in `make
/// check-all`, in seconds, unless `vmtest.seconds=` says it.
pub fn duration(seconds: [u32; 2]) -> io::Result<Duration> {
    let given = kernel_parameter("vmtest.seconds")?;
    let given = given.map(|given| given.parse().map_err(io::Error::other));
    let seconds = given.unwrap_or_else(|| rounds(seconds))?;
    Ok(Duration::from_secs(seconds.into()))
}

/// Whether a scenario goes on for longer than in `make check`.
pub fn is_long() -> io::Result<bool> {
    let given = kernel_parameter("vmtest.seconds")?.is_some();
    Ok(given || kernel_parameter("vmtest.all")?.is_some())
}

/// How many of its cases a scenario tries that has many: `few`, which it draws, in `make check`, all
/// if it goes on for longer, and with a mutant, which any of them may notice.
pub fn cases(few: usize) -> io::Result<usize> {
    let all = is_long()? || kernel_parameter("vmtest.whole")?.is_some();
    Ok(if all { usize::MAX } else { few })
}

/// Chooses one of two numbers: the first in `make check`, the second in `make check-all`.
pub fn rounds([usual, all]: [u32; 2]) -> io::Result<u32> {
    let long = kernel_parameter("vmtest.all")?.is_some();
    Ok(if long { all } else { usual })
}

fn module_file(name: &str) -> String {
    format!("/lib/modules/{name}.ko")
}

/// Whether a driver is a module in this machine: else the kernel's image has it.
pub fn is_module(name: &str) -> io::Result<bool> {
    std::fs::exists(module_file(name))
}

/// Loads a module.
pub fn load_module(name: &str, params: &str) -> io::Result<()> {
    let file = File::open(module_file(name))?;
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

fn socket(kind: libc::c_int, protocol: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: Just a system call.
    let fd = unsafe { libc::socket(libc::AF_INET, kind | libc::SOCK_CLOEXEC, protocol) };
    check(fd)?;
    // SAFETY: The kernel just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Has a terminal take and give bytes as they are. A read that waits for `tenths` of a second
/// returns nothing.
pub fn set_raw(terminal: &File, tenths: u8) -> io::Result<()> {
    let fd = terminal.as_raw_fd();
    // SAFETY: An all-zero termios is a value of its type.
    let mut settings: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: `settings` is one termios, which outlives the calls.
    unsafe {
        check(libc::tcgetattr(fd, &mut settings))?;
        libc::cfmakeraw(&mut settings);
    }
    settings.c_cc[libc::VMIN] = 0;
    settings.c_cc[libc::VTIME] = tenths;
    // SAFETY: `settings` is a whole termios, which is only read.
    check(unsafe { libc::tcsetattr(fd, libc::TCSAFLUSH, &settings) })
}

/// A socket for ICMP.
pub fn icmp_socket() -> io::Result<OwnedFd> {
    socket(libc::SOCK_RAW, libc::IPPROTO_ICMP)
}

/// An ioctl about a network interface, with what `fill` makes of its argument. Returns that
/// as it is afterwards.
fn interface_ioctl(
    name: &str,
    number: libc::c_ulong,
    fill: impl FnOnce(&mut libc::ifreq),
) -> io::Result<libc::ifreq> {
    let socket = socket(libc::SOCK_DGRAM, 0)?;
    // SAFETY: All zeroes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let last = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name[..last].iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    fill(&mut request);
    // SAFETY: The request is a valid ifreq, of which the kernel writes no more.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), number, &mut request) })?;
    Ok(request)
}

/// The flags of a network interface.
pub fn interface_flags(name: &str) -> io::Result<libc::c_int> {
    let request = interface_ioctl(name, libc::SIOCGIFFLAGS, |_| ())?;
    // SAFETY: The kernel has just written the flags.
    Ok(unsafe { request.ifr_ifru.ifru_flags }.into())
}

/// Sets or clears flags of a network interface.
pub fn set_interface_flags(name: &str, bits: libc::c_int, on: bool) -> io::Result<()> {
    let flags = interface_flags(name)?;
    let flags = if on { flags | bits } else { flags & !bits };
    interface_ioctl(name, libc::SIOCSIFFLAGS, |request| {
        request.ifr_ifru.ifru_flags = flags as libc::c_short;
    })?;
    Ok(())
}

/// The MTU of a network interface.
pub fn mtu(name: &str) -> io::Result<libc::c_int> {
    let request = interface_ioctl(name, libc::SIOCGIFMTU, |_| ())?;
    // SAFETY: The kernel has just written the MTU.
    Ok(unsafe { request.ifr_ifru.ifru_mtu })
}

/// Sets the MTU of a network interface.
pub fn set_mtu(name: &str, mtu: libc::c_int) -> io::Result<()> {
    interface_ioctl(name, libc::SIOCSIFMTU, |request| {
        request.ifr_ifru.ifru_mtu = mtu;
    })?;
    Ok(())
}

/// Gives a network interface an address, in a network of 256.
pub fn set_address(name: &str, address: Ipv4Addr) -> io::Result<()> {
    for (number, address) in [
        (libc::SIOCSIFADDR, address),
        (libc::SIOCSIFNETMASK, Ipv4Addr::new(255, 255, 255, 0)),
    ] {
        interface_ioctl(name, number, |request| {
            let mut bytes = [0; 14];
            bytes[2..6].copy_from_slice(&address.octets());
            request.ifr_ifru.ifru_addr = libc::sockaddr {
                sa_family: libc::AF_INET as libc::sa_family_t,
                sa_data: bytes.map(|byte| byte as libc::c_char),
            };
        })?;
    }
    Ok(())
}

/// Has the driver of a network interface carry out a command for ethtool, which begins with
/// its number and is as long as the kernel takes that command to be.
pub fn ethtool(name: &str, command: &mut [u8]) -> io::Result<()> {
    interface_ioctl(name, libc::SIOCETHTOOL as libc::c_ulong, |request| {
        request.ifr_ifru.ifru_data = command.as_mut_ptr().cast();
    })?;
    Ok(())
}

/// Segments that were sent again on a TCP connection.
pub fn tcp_retransmits(socket: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: All zeroes are a valid tcp_info.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut len = size_of_val(&info) as libc::socklen_t;
    // SAFETY: `info` is valid for writes of `len` bytes.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &mut len,
        )
    })?;
    Ok(info.tcpi_total_retrans)
}

/// Has what is sent by a socket of UDP leave as datagrams of this size.
pub fn set_udp_segment(socket: &UdpSocket, size: libc::c_int) -> io::Result<()> {
    // SAFETY: The value is an int, of which the call reads all and no more.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            (&raw const size).cast(),
            size_of_val(&size) as libc::socklen_t,
        )
    })
}

/// Sets the size of a socket's receive buffer, also beyond the limit of the system.
pub fn set_receive_buffer(socket: &UdpSocket, bytes: libc::c_int) -> io::Result<()> {
    // SAFETY: The value is an int, of which the call reads all and no more.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const bytes).cast(),
            size_of_val(&bytes) as libc::socklen_t,
        )
    })
}

/// Moves the calling thread to a network namespace of its own.
pub fn new_network_namespace() -> io::Result<()> {
    // SAFETY: Just a system call.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) })
}

/// The number of a network interface.
pub fn interface_index(name: &str) -> io::Result<libc::c_uint> {
    let name = c_string(name)?;
    // SAFETY: The name is a C string.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// Turns the loopback interface on.
pub fn loopback_up() -> io::Result<()> {
    set_interface_flags("lo", libc::IFF_UP | libc::IFF_RUNNING, true)
}

/// Sends a signal to a child that was not waited for.
pub fn kill(pid: u32, signal: libc::c_int) -> io::Result<()> {
    // SAFETY: Just a system call.
    check(unsafe { libc::kill(pid as libc::pid_t, signal) })
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

/// Lets the calling thread run on the first CPU only.
pub fn on_first_cpu() -> io::Result<()> {
    // SAFETY: All zeroes are a valid set, of which the call reads all and no more.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(0, &mut set);
        check(libc::sched_setaffinity(0, size_of_val(&set), &set))
    }
}

/// Lets the calling thread run before all that have no real-time priority.
pub fn at_real_time_priority() -> io::Result<()> {
    let param = libc::sched_param { sched_priority: 1 };
    // SAFETY: `param` is valid for reads.
    check(unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &param) })
}

/// Sets the timer slack of the calling thread to the least, so that it wakes up in time.
pub fn exact_sleep() -> io::Result<()> {
    // SAFETY: No memory is involved.
    check(unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) })
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

/// `__NR_ioctl` of i386.
const COMPAT_IOCTL: u64 = 54;

/// An ioctl with a structure of `words`, as a program of 32 bit makes it.
pub fn compat_ioctl(file: &File, number: libc::c_ulong, words: &mut [u32]) -> io::Result<()> {
    let len = size_of_val(words);
    // SAFETY: A new mapping, in the first 4 GiB.
    let page = unsafe {
        libc::mmap(
            ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT,
            -1,
            0,
        )
    };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: The mapping is as long, aligned, and nobody else knows it.
    let shared = unsafe { std::slice::from_raw_parts_mut(page.cast::<u32>(), words.len()) };
    shared.copy_from_slice(words);
    let result: i64;
    // SAFETY: The system call gets numbers, and a structure in the mapping. The kernel
    // keeps all registers but rax, and clears r8 to r11. rbx cannot be named here.
    unsafe {
        std::arch::asm!(
            "xchg rbx, {fd}",
            "int 0x80",
            "xchg rbx, {fd}",
            fd = inout(reg) file.as_raw_fd() as u64 => _,
            inlateout("rax") COMPAT_IOCTL => result,
            in("rcx") number,
            in("rdx") page,
            lateout("r8") _,
            lateout("r9") _,
            lateout("r10") _,
            lateout("r11") _,
        );
    }
    words.copy_from_slice(shared);
    // SAFETY: Our mapping, which nobody uses any more.
    unsafe { libc::munmap(page, len) };
    match result as i32 {
        errno if errno < 0 => Err(io::Error::from_raw_os_error(-errno)),
        _ => Ok(()),
    }
}

/// Does `work` on this thread, and has a signal come after `delay` that ends a system
/// call with EINTR; and again, if the call had not begun.
pub fn interrupted<T>(delay: Duration, work: impl FnOnce() -> T) -> io::Result<T> {
    with_signal(|| std::thread::sleep(delay), true, work)
}

/// As [`interrupted`], but a signal comes when `wait` returns.
pub fn interrupted_after<T>(wait: impl Fn() + Send, work: impl FnOnce() -> T) -> io::Result<T> {
    with_signal(wait, true, work)
}

/// As [`interrupted`], but system calls are restarted where that is possible.
pub fn signalled<T>(delay: Duration, work: impl FnOnce() -> T) -> io::Result<T> {
    with_signal(|| std::thread::sleep(delay), false, work)
}

fn with_signal<T>(
    wait: impl Fn() + Send,
    ends_calls: bool,
    work: impl FnOnce() -> T,
) -> io::Result<T> {
    /// How long to wait for the end of what a signal has not reached.
    const AGAIN: Duration = Duration::from_millis(100);
    extern "C" fn nothing(_signal: libc::c_int) {}

    // SAFETY: All zeroes are a valid sigaction; the handler does nothing.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as libc::sighandler_t;
        action.sa_flags = if ends_calls { 0 } else { libc::SA_RESTART };
        check(libc::sigaction(libc::SIGUSR1, &action, ptr::null_mut()))?;
    }
    // SAFETY: Just a system call.
    let thread = unsafe { libc::pthread_self() };
    let (done, is_done) = mpsc::channel();
    Ok(std::thread::scope(|scope| {
        scope.spawn(move || {
            wait();
            loop {
                if is_done.try_recv() != Err(mpsc::TryRecvError::Empty) {
                    return;
                }
                // SAFETY: The thread waits for this one.
                unsafe { libc::pthread_kill(thread, libc::SIGUSR1) };
                if !ends_calls || is_done.recv_timeout(AGAIN).is_ok() {
                    return;
                }
            }
        });
        let result = work();
        let _ = done.send(());
        result
    }))
}

/// What epoll says of a file that is looked at edge by edge.
pub struct Edges(OwnedFd);

impl Edges {
    /// Looks for `events` (`EPOLL*`).
    pub fn of(file: BorrowedFd<'_>, events: libc::c_int) -> io::Result<Self> {
        // SAFETY: Just a system call.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        check(fd)?;
        // SAFETY: The descriptor was opened just now, and nobody else has it.
        let edges = Self(unsafe { OwnedFd::from_raw_fd(fd) });
        let mut event = libc::epoll_event {
            events: (events | libc::EPOLLET) as u32,
            u64: 0,
        };
        let (epoll, file) = (edges.0.as_raw_fd(), file.as_raw_fd());
        // SAFETY: `event` is a local variable.
        check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, file, &mut event) })?;
        Ok(edges)
    }

    /// Waits for an edge. Returns whether there was one.
    pub fn wait(&self, timeout_ms: libc::c_int) -> io::Result<bool> {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: There is room for one event.
        let found = unsafe { libc::epoll_wait(self.0.as_raw_fd(), &mut event, 1, timeout_ms) };
        check(found)?;
        Ok(found > 0)
    }
}

/// A file in memory.
pub fn memory_file(name: &CStr) -> io::Result<File> {
    // SAFETY: The name is a string that ends with a NUL.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: The descriptor was opened just now, and nobody else has it.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// Forks a child that does `work`, and calls `beside` with the child's number. Returns
/// what `work` says, a page at most.
pub fn in_child(
    work: impl FnOnce() -> String,
    beside: impl FnOnce(u32) -> io::Result<()>,
) -> io::Result<String> {
    let (mut from, mut to) = UnixStream::pair()?;
    // SAFETY: The child only does `work` and writes what that says, and then exits
    // without running any destructor of this process.
    let child = unsafe { libc::fork() };
    check(child)?;
    if child == 0 {
        let said = to.write_all(work().as_bytes());
        // SAFETY: Just a system call.
        unsafe { libc::_exit(i32::from(said.is_err())) };
    }
    drop(to);
    let done = beside(child as u32);
    if done.is_err() {
        let _ = kill(child as u32, libc::SIGKILL);
    }
    let mut said = String::new();
    let read = from.read_to_string(&mut said);
    // SAFETY: The child was not waited for; nobody wants its status.
    check(unsafe { libc::waitpid(child, ptr::null_mut(), 0) })?;
    done.and(read).map(|_| said)
}

/// Has this process get a heap of `bytes` more than it has now, and keep it: what it allocates
/// after this, from any thread, asks the kernel for nothing until that is used up.
pub fn reserve_heap(bytes: libc::c_int) -> io::Result<()> {
    // The largest that there is: half of HEAP_MAX_SIZE.
    const LARGEST: libc::c_int = 32 << 20;
    let options = [
        (libc::M_ARENA_MAX, 1),
        (libc::M_MMAP_THRESHOLD, LARGEST),
        (libc::M_TRIM_THRESHOLD, libc::c_int::MAX),
        (libc::M_TOP_PAD, bytes),
    ];
    for (option, value) in options {
        // SAFETY: No memory is involved but what the allocator manages itself.
        if unsafe { libc::mallopt(option, value) } != 1 {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
    }
    // Larger than what the allocator has left: the next time it asks is now.
    drop(hint::black_box(Vec::<u8>::with_capacity(
        LARGEST as usize - PAGE,
    )));
    Ok(())
}

/// A page of memory that is missing until its fault is resolved: an access to it waits. The
/// pages before and behind it are there.
pub struct MissingMemory {
    addr: usize,
    uffd: OwnedFd,
}

const PAGE: usize = 4096;
/// `UFFDIO_API`, `UFFDIO_REGISTER`, `UFFDIO_ZEROPAGE`: linux/userfaultfd.h.
const UFFDIO_API: libc::c_ulong = 0xc018_aa3f;
const UFFDIO_REGISTER: libc::c_ulong = 0xc020_aa00;
const UFFDIO_ZEROPAGE: libc::c_ulong = 0xc020_aa04;
/// `UFFD_API`.
const UFFD_API: u64 = 0xaa;
/// `UFFDIO_REGISTER_MODE_MISSING`.
const MODE_MISSING: u64 = 1;

impl MissingMemory {
    /// Maps it.
    pub fn new() -> io::Result<Self> {
        // SAFETY: Just a system call.
        let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) } as libc::c_int;
        check(fd)?;
        // SAFETY: The kernel just made it for us.
        let uffd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: A new mapping, at an address of the kernel's choice.
        let addr = unsafe {
            libc::mmap(
                ptr::null_mut(),
                3 * PAGE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if addr == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = Self {
            addr: addr as usize + PAGE,
            uffd,
        };
        memory.ioctl(UFFDIO_API, [UFFD_API, 0, 0, 0])?;
        let (addr, len) = (memory.addr as u64, PAGE as u64);
        memory.ioctl(UFFDIO_REGISTER, [addr, len, MODE_MISSING, 0])?;
        Ok(memory)
    }

    fn ioctl(&self, number: libc::c_ulong, mut argument: [u64; 4]) -> io::Result<()> {
        // SAFETY: The structures of these ioctls are of three or four u64.
        check(unsafe { libc::ioctl(self.uffd.as_raw_fd(), number, argument.as_mut_ptr()) })
    }

    /// Where it is.
    pub fn addr(&self) -> usize {
        self.addr
    }

    /// Where the page before it is, and the length of all three.
    pub fn around(&self) -> (usize, usize) {
        (self.addr - PAGE, 3 * PAGE)
    }

    /// Waits until somebody waits for it.
    pub fn wait_for_fault(&self) -> io::Result<()> {
        // A message has 32 bytes.
        File::from(self.uffd.try_clone()?).read_exact(&mut [0; 32])
    }

    /// Has each access to it fail.
    pub fn forbid(&self) -> io::Result<()> {
        let at = self.addr as *mut libc::c_void;
        // SAFETY: A page of our mapping, to which nobody has a reference.
        check(unsafe { libc::mprotect(at, PAGE, libc::PROT_NONE) })
    }

    /// Resolves the fault: the page is there, with zeroes.
    pub fn resolve_fault(&self) -> io::Result<()> {
        self.ioctl(UFFDIO_ZEROPAGE, [self.addr as u64, PAGE as u64, 0, 0])
    }
}

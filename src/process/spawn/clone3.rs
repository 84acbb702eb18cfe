//! Starts a child with clone3(2): into its cgroup at birth, sharing our memory until it executes.
//!
//! Like `posix_spawn` it stops the calling thread until the child has executed or given up
//! (`CLONE_VM | CLONE_VFORK`), so nothing is copied however big we are. Two things it does better:
//! the child is born in its cgroup (`CLONE_INTO_CGROUP`; moving it later costs 0.4 ms and races
//! with its first fork), and our descriptor table is never copied: the child shares it
//! (`CLONE_FILES`) until `close_range(CLOSE_RANGE_UNSHARE)` gives it one of its own that holds
//! 0, 1 and 2 only. The price of a spawn so does not grow with the number of pidfds we hold.
//!
//! The child runs [`child`] on a stack of its own with every signal blocked, makes raw system
//! calls only, and tells of a failure through shared memory.

#![expect(unsafe_code, reason = "clone3 with shared memory has no safe wrapper anywhere")]

use std::ffi::{CStr, c_char, c_int, c_long, c_void};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;
use std::{io, ptr};

use super::orders::{Start, Step};
use super::{Born, Refused};

const CLONE_VM: u64 = 0x100;
const CLONE_FILES: u64 = 0x400;
const CLONE_PIDFD: u64 = 0x1000;
const CLONE_VFORK: u64 = 0x4000;
/// What is handled becomes the default; what is ignored stays so (Linux 5.5).
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// Bytes of the kernel's `sigset_t`: 64 signals.
const SIGSET_BYTES: usize = 8;
const SIGNALS: c_int = 64;
const STACK_BYTES: usize = 32 * 1024;

/// `struct clone_args` of clone3(2), version 2 (with `cgroup`, Linux 5.7).
#[repr(C, align(8))]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// What parent and child share: the orders in, the failure out.
#[repr(C)]
struct Shared {
    directory: *const c_char,
    output: *const c_char,
    input: *const c_char,
    /// Not 0: our own standard input is what the child is to have.
    has_input: c_int,
    /// The output, unless `output` names it, then what becomes 3, 4, …
    descriptors: *const c_int,
    descriptor_count: c_int,
    /// The highest of them, at least 2.
    kept: c_int,
    soft_descriptors: Option<libc::rlimit>,
    /// Bit n − 1: signal n is ignored in us and would stay so in the program.
    ignored: u64,
    program: *const c_char,
    argv: *const *const c_char,
    environment: *const *const c_char,
    failed_step: c_int,
    errno: c_int,
}

#[repr(C, align(64))]
struct Stack(MaybeUninit<[u8; STACK_BYTES]>);

/// Whether this kernel, and what filters its calls, lets us use clone3 at all.
///
/// Container runtimes used to answer ENOSYS or EPERM to it.
pub(super) fn is_allowed() -> bool {
    // SAFETY: a null structure of size 0 is refused with EINVAL before anything is read.
    let answer = unsafe { libc::syscall(libc::SYS_clone3, ptr::null::<c_void>(), 0_usize) };
    answer == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL)
}

/// Starts the child, in `cgroup` if one is given, and returns once it has executed.
pub(super) fn spawn(
    start: &Start<'_>,
    cgroup: Option<BorrowedFd<'_>>,
    soft_descriptors: Option<libc::rlimit>,
) -> Result<Born, Refused> {
    let mut shared = Shared {
        directory: start.directory.map_or(ptr::null(), CStr::as_ptr),
        output: start.output.map_or(ptr::null(), CStr::as_ptr),
        input: start.input.unwrap_or(c"/dev/null").as_ptr(),
        has_input: c_int::from(start.input.is_none() && super::input::is_empty()),
        descriptors: start.descriptors.as_ptr(),
        descriptor_count: start.descriptors.len() as c_int,
        kept: start.descriptors.iter().copied().fold(2, c_int::max),
        soft_descriptors,
        ignored: ignored_signals(),
        program: start.program.as_ptr(),
        argv: start.argv(),
        environment: start.environment(),
        failed_step: 0,
        errno: 0,
    };
    let mut stack = Stack(MaybeUninit::uninit());
    let mut pidfd: c_int = -1;
    let mut arguments = CloneArguments {
        flags: CLONE_VM | CLONE_VFORK | CLONE_FILES | CLONE_PIDFD | CLONE_CLEAR_SIGHAND,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        stack: stack.0.as_mut_ptr() as u64,
        stack_size: STACK_BYTES as u64,
        ..CloneArguments::default()
    };
    if let Some(cgroup) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = cgroup.as_raw_fd() as u64;
    }

    // A handler of ours that ran in the child would run on our memory.
    let before = block_all_signals();
    // SAFETY: `arguments`, `shared` and `stack` live until the child has executed or exited,
    // because CLONE_VFORK holds this thread until then; `child` never returns.
    let answer = unsafe { clone(&raw const arguments, &raw mut shared) };
    restore_signals(before);

    let pid = i32::try_from(answer).unwrap_or(-libc::EINVAL);
    if pid < 0 {
        return Err(Refused { step: Step::Clone, errno: -pid });
    }
    // SAFETY: the kernel made this descriptor for us just now (CLONE_PIDFD).
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    if shared.failed_step == 0 {
        return Ok(Born { pid, pidfd });
    }
    super::forget(&pidfd);
    Err(Refused { step: step(shared.failed_step), errno: shared.errno })
}

fn step(number: c_int) -> Step {
    [Step::Descriptors, Step::Session, Step::Directory, Step::Input, Step::Output]
        .into_iter()
        .find(|it| *it as c_int == number)
        .unwrap_or(Step::Execute)
}

/// Calls clone3; the child goes on in [`child`] on its own stack and never comes back here.
///
/// # Safety
/// `arguments` must hold CLONE_VM, CLONE_VFORK and a stack of its own, and everything that
/// `shared` points at must live until this returns.
unsafe fn clone(arguments: *const CloneArguments, shared: *mut Shared) -> i64 {
    let answer: i64;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as promised by the caller. The parent sees a system call: rax, rcx and r11 change.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => answer,
            in("rdi") arguments,
            in("rsi") size_of::<CloneArguments>(),
            in("r12") shared,
            in("r13") child as unsafe extern "C" fn(*mut Shared) -> !,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as promised by the caller. The parent sees a system call: only x0 changes.
    unsafe {
        std::arch::asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x30, xzr",
            "mov x0, x20",
            "blr x21",
            "brk #1",
            "2:",
            inlateout("x0") arguments => answer,
            in("x1") size_of::<CloneArguments>(),
            in("x8") libc::SYS_clone3,
            in("x20") shared,
            in("x21") child as unsafe extern "C" fn(*mut Shared) -> !,
        );
    }
    answer
}

/// The child's whole life before the program: raw system calls on shared memory, nothing else.
unsafe extern "C" fn child(shared: *mut Shared) -> ! {
    // SAFETY: the parent waits and does not look at `shared` until we are gone.
    unsafe {
        let failed = follow(&*shared);
        (*shared).errno = *libc::__errno_location();
        (*shared).failed_step = failed as c_int;
        libc::syscall(libc::SYS_exit_group, 127 as c_long);
    }
    loop {
        std::hint::spin_loop();
    }
}

/// Carries the orders out; returns only if a step fails, with that step, `errno` being its reason.
unsafe fn follow(shared: &Shared) -> Step {
    // SAFETY: every pointer was made by the parent from an owned C string or table.
    unsafe {
        if libc::syscall(
            libc::SYS_close_range,
            c_long::from(shared.kept + 1),
            c_long::from(u32::MAX),
            c_long::from(libc::CLOSE_RANGE_UNSHARE),
        ) != 0
        {
            return Step::Descriptors;
        }
        heed_signals(shared.ignored);
        if libc::setsid() < 0 {
            return Step::Session;
        }
        if !shared.directory.is_null() && libc::chdir(shared.directory) != 0 {
            return Step::Directory;
        }
        if let Some(failed) = connect(shared) {
            return failed;
        }
        if let Some(limit) = &shared.soft_descriptors {
            libc::setrlimit(libc::RLIMIT_NOFILE, limit);
        }
        let nothing = 0_u64;
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK as c_long,
            &raw const nothing,
            ptr::null::<u64>(),
            SIGSET_BYTES,
        );
        libc::execve(shared.program, shared.argv.cast(), shared.environment.cast());
    }
    Step::Execute
}

/// Standard input, output and error, then what is passed as 3, 4, …; all else is closed.
unsafe fn connect(shared: &Shared) -> Option<Step> {
    // SAFETY: plain system calls on descriptors of a table that is the child's own by now.
    unsafe {
        // Out of the way first: a target may be the source of another. The table is empty above
        // `kept`, so the copies get the numbers from `kept + 1` on, in order.
        for index in 0..shared.descriptor_count {
            let source = *shared.descriptors.offset(index as isize);
            if libc::fcntl(source, libc::F_DUPFD, shared.kept + 1) < 0 {
                return Some(Step::Descriptors);
            }
        }
        // An open takes the lowest free number: after a close, exactly that one, and it works
        // even where the limit of descriptors is exhausted.
        if shared.has_input == 0 {
            libc::close(0);
            if libc::open(shared.input, libc::O_RDONLY) != 0 {
                return Some(Step::Input);
            }
        }
        let mut copy = shared.kept + 1;
        if shared.output.is_null() {
            if libc::dup2(copy, 1) != 1 {
                return Some(Step::Output);
            }
            copy += 1;
        } else {
            libc::close(1);
            if libc::open(shared.output, libc::O_RDWR | libc::O_NOCTTY) != 1 {
                return Some(Step::Output);
            }
        }
        if libc::dup2(1, 2) != 2 {
            return Some(Step::Output);
        }
        let mut target = 3;
        while copy <= shared.kept + shared.descriptor_count {
            if libc::dup2(copy, target) != target {
                return Some(Step::Descriptors);
            }
            copy += 1;
            target += 1;
        }
        if shared.descriptor_count > 0 {
            let rest = c_long::from(target);
            libc::syscall(libc::SYS_close_range, rest, c_long::from(u32::MAX), 0 as c_long);
        }
    }
    None
}

/// Gives ignored signals their default disposition; CLONE_CLEAR_SIGHAND did it for the others.
unsafe fn heed_signals(ignored: u64) {
    let default = Disposition::default();
    for signal in (1..=SIGNALS).filter(|it| ignored & (1 << (it - 1)) != 0) {
        // SAFETY: the structure outlives the call.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal as c_long,
                &raw const default,
                ptr::null::<u64>(),
                SIGSET_BYTES,
            );
        }
    }
}

/// The signals that we ignore: SIGPIPE, as every Rust program does, and what was ignored in whoever
/// started us (nohup). Nothing here ignores another one later, so one look is enough: 64 calls a start
/// would cost more than everything else that the child does.
fn ignored_signals() -> u64 {
    static IGNORED: OnceLock<u64> = OnceLock::new();
    *IGNORED.get_or_init(|| {
        (1..=SIGNALS).filter(|it| is_ignored(*it)).fold(0, |all, it| all | 1 << (it - 1))
    })
}

fn is_ignored(signal: c_int) -> bool {
    let mut found = Disposition::default();
    // SAFETY: the structure is ours to write, and as large as the kernel's.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            signal as c_long,
            ptr::null::<u64>(),
            &raw mut found,
            SIGSET_BYTES,
        )
    };
    answer == 0 && found.handler == libc::SIG_IGN
}

/// The kernel's `sigaction`, or a little more than it; all zero is SIG_DFL.
#[repr(C)]
#[derive(Default)]
struct Disposition {
    handler: usize,
    /// Flags, restorer where there is one, and mask.
    rest: [u64; 3],
}

fn block_all_signals() -> u64 {
    let all = u64::MAX;
    let mut before = 0_u64;
    // SAFETY: both masks are 64 bits and live here. The raw call also blocks the C library's own.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK as c_long,
            &raw const all,
            &raw mut before,
            SIGSET_BYTES,
        );
    }
    before
}

fn restore_signals(before: u64) {
    // SAFETY: as in `block_all_signals`.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK as c_long,
            &raw const before,
            ptr::null::<u64>(),
            SIGSET_BYTES,
        );
    }
}

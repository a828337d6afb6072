//! The child's side of a spawn: from clone to exec, in memory it shares with its parent.
//!
//! ```text
//! clone ─▶ session ─▶ record (state file, PID file) ─▶ own fd table ─▶ files, limits, directory ─▶ exec
//!          │ the parent's fd table is shared up to here, and with it   │ from here on the record names it
//!          │ the lock: nobody takes over before the record is written  │ and whoever comes next finds it
//! ```
//!
//! Only system calls on memory made before, in [`Plan`]: other threads of the parent may hold any lock (the allocator's, for one),
//! and a child killed in between would hold one for ever. The calling thread of the parent stands still until exec or exit, so what
//! the child writes into the plan is what the parent reads afterwards.

use std::ffi::{CString, c_char, c_int, c_void};
use std::os::fd::RawFd;

/// The environment entry the child writes its own pid into: room for the longest pid and a NUL.
const LISTEN_PID_TEMPLATE: &[u8] = b"LISTEN_PID=0000000000\0";
const LISTEN_PID_NAME_LEN: usize = "LISTEN_PID=".len();

/// Exit code of a child that never got to execute its program.
const EXIT_NOT_EXECUTED: c_int = 127;
const DIGITS_MAX: usize = 20;
const PIECES_MAX: usize = 5;

/// What the child needs, ready to be used without allocating, and what it tells.
pub(super) struct Plan {
    pub(super) file: CString,
    pub(super) argv: StringArray,
    pub(super) env: StringArray,
    pub(super) working_dir: Option<CString>,
    pub(super) umask: u32,
    /// Become fd 0, 1, 2, 3, …
    pub(super) files: Vec<Source>,
    /// Written before anything else can be seen of the child.
    pub(super) records: Vec<RecordFile>,
    /// Open `cgroup.procs` of the cgroup to enter, where the clone did not do that.
    pub(super) cgroup_procs: Option<RawFd>,
    pub(super) limits: Vec<(libc::__rlimit_resource_t, libc::rlimit64)>,
    pub(super) nice: Option<c_int>,
    pub(super) io_priority: Option<c_int>,
    /// Told by the child: its start, in clock ticks since boot.
    pub(super) start_time_ticks: u64,
    /// Told by the child that failed.
    pub(super) failure: Option<Failure>,
}

/// One of the child's files.
pub(super) enum Source {
    /// Open in the parent.
    Fd(RawFd),
    /// To be opened by the child, with these flags: in the parent it would need a number above those of all other units, and the
    /// child a copy of that whole table.
    Path(CString, c_int),
}

/// A small file that appears whole.
pub(super) struct RecordFile {
    pub(super) new: CString,
    pub(super) path: CString,
    pub(super) mode: libc::mode_t,
    pub(super) pieces: Vec<Piece>,
}

/// A part of a record.
#[derive(Debug, Clone)]
pub(crate) enum Piece {
    Text(Vec<u8>),
    Pid,
    StartTimeTicks,
}

/// Strings as `execve` wants them: a null-terminated array of pointers.
pub(super) struct StringArray {
    strings: Vec<CString>,
    /// `LISTEN_PID=` with room for the pid that only the child knows.
    listen_pid: Vec<u8>,
    pointers: Vec<*const c_char>,
}

impl StringArray {
    pub(super) fn new(strings: Vec<CString>) -> Self {
        Self::with_listen_pid(strings, false)
    }

    pub(super) fn with_listen_pid(strings: Vec<CString>, has_listen_pid: bool) -> Self {
        let mut listen_pid = if has_listen_pid { LISTEN_PID_TEMPLATE.to_vec() } else { Vec::new() };
        let mut pointers: Vec<*const c_char> = strings.iter().map(|string| string.as_ptr()).collect();
        if has_listen_pid {
            pointers.push(listen_pid.as_mut_ptr().cast_const().cast());
        }
        pointers.push(std::ptr::null());
        Self { strings, listen_pid, pointers }
    }

    /// Bytes and pointers: what the kernel's limit counts.
    pub(super) fn bytes(&self) -> usize {
        let strings: usize = self.strings.iter().map(|string| string.as_bytes_with_nul().len()).sum();
        strings + self.listen_pid.len() + self.pointers.len() * size_of::<*const c_char>()
    }

    fn write_listen_pid(&mut self, pid: u64) {
        let mut buffer = [0_u8; DIGITS_MAX];
        let digits = digits(pid, &mut buffer);
        for (place, digit) in self.listen_pid.iter_mut().skip(LISTEN_PID_NAME_LEN).zip(digits.iter().chain([&0])) {
            *place = *digit;
        }
    }
}

/// What the child was doing when it failed, and the errno of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) step: Step,
    pub(super) errno: c_int,
}

/// What the child does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    NewSession,
    ReadStat,
    /// The record with this index.
    Record(usize),
    EnterCgroup,
    UnshareFiles,
    /// The file with this index.
    PlaceFile(usize),
    /// The limit with this index.
    Limit(usize),
    Nice,
    IoPriority,
    EnterDirectory,
    Execute,
}

/// The child's whole life before its program.
pub(super) extern "C" fn carry_out(plan: *mut c_void) -> c_int {
    #[expect(unsafe_code, reason = "the plan crosses the clone as a plain pointer")]
    // SAFETY: the parent made this pointer of its own plan, and stands still until we execute or exit.
    let plan = unsafe { &mut *plan.cast::<Plan>() };
    let Err(step) = try_to_execute(plan);
    #[expect(unsafe_code, reason = "errno and _exit")]
    // SAFETY: errno of this thread; _exit runs no handlers of the parent's.
    unsafe {
        let errno = *libc::__errno_location();
        plan.failure = Some(Failure { step, errno });
        libc::_exit(EXIT_NOT_EXECUTED)
    }
}

/// Returns only where a step failed.
#[expect(unsafe_code, reason = "raw system calls of a cloned child")]
fn try_to_execute(plan: &mut Plan) -> Result<std::convert::Infallible, Step> {
    // SAFETY: for every call below: plain system calls on memory that `plan` owns; no allocation, no lock.
    unsafe {
        reset_signal_handlers();
        if libc::setsid() < 0 {
            return Err(Step::NewSession);
        }
        let pid = u64::from(libc::getpid().unsigned_abs());
        plan.start_time_ticks = read_start_time_ticks().ok_or(Step::ReadStat)?;
        for (index, record) in plan.records.iter().enumerate() {
            write_record(record, pid, plan.start_time_ticks).ok_or(Step::Record(index))?;
        }
        if let Some(procs) = plan.cgroup_procs
            && libc::write(procs, c"0".as_ptr().cast(), 1) < 0
        {
            return Err(Step::EnterCgroup);
        }
        place_files(&plan.files)?;
        for (index, (resource, limit)) in plan.limits.iter().enumerate() {
            if libc::prlimit64(0, *resource, limit, std::ptr::null_mut()) < 0 {
                return Err(Step::Limit(index));
            }
        }
        if plan.nice.is_some_and(|nice| libc::setpriority(libc::PRIO_PROCESS, 0, nice) < 0) {
            return Err(Step::Nice);
        }
        const IOPRIO_WHO_PROCESS: c_int = 1;
        if plan.io_priority.is_some_and(|io| libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, io) < 0) {
            return Err(Step::IoPriority);
        }
        libc::umask(plan.umask);
        plan.env.write_listen_pid(pid);
        if plan.working_dir.as_ref().is_some_and(|dir| libc::chdir(dir.as_ptr()) < 0) {
            return Err(Step::EnterDirectory);
        }
        unblock_signals();
        libc::execve(plan.file.as_ptr(), plan.argv.pointers.as_ptr(), plan.env.pointers.as_ptr());
        Err(Step::Execute)
    }
}

/// Default handling for every signal. Of the child's own table; none can arrive before: they are all blocked.
#[expect(unsafe_code, reason = "raw system calls of a cloned child")]
unsafe fn reset_signal_handlers() {
    // SAFETY: sigaction on local, zeroed memory; those that cannot be set (KILL, STOP) fail harmlessly.
    unsafe {
        let mut default: libc::sigaction = std::mem::zeroed();
        default.sa_sigaction = libc::SIG_DFL;
        for signal in 1..=64 {
            libc::sigaction(signal, &raw const default, std::ptr::null_mut());
        }
    }
}

#[expect(unsafe_code, reason = "raw system calls of a cloned child")]
unsafe fn unblock_signals() {
    // SAFETY: sigprocmask on local memory.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// This process's start, from `/proc/self/stat`.
#[expect(unsafe_code, reason = "raw system calls of a cloned child")]
unsafe fn read_start_time_ticks() -> Option<u64> {
    let mut text = [0_u8; 1024];
    // SAFETY: open, read into local memory, close.
    let len = unsafe {
        let fd = libc::open(c"/proc/self/stat".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if fd < 0 {
            return None;
        }
        let len = libc::read(fd, text.as_mut_ptr().cast(), text.len());
        libc::close(fd);
        usize::try_from(len).ok()?
    };
    super::identity::start_time_ticks_in(text.get(..len)?)
}

/// Writes the file beside its place, then moves it there.
#[expect(unsafe_code, reason = "raw system calls of a cloned child")]
unsafe fn write_record(record: &RecordFile, pid: u64, start_time_ticks: u64) -> Option<()> {
    let (mut pid_digits, mut ticks_digits) = ([0_u8; DIGITS_MAX], [0_u8; DIGITS_MAX]);
    let (pid_digits, ticks_digits) = (digits(pid, &mut pid_digits), digits(start_time_ticks, &mut ticks_digits));
    let mut slices = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; PIECES_MAX];
    let mut len = 0;
    for (slice, piece) in slices.iter_mut().zip(&record.pieces) {
        let bytes: &[u8] = match piece {
            Piece::Text(text) => text,
            Piece::Pid => pid_digits,
            Piece::StartTimeTicks => ticks_digits,
        };
        *slice = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        len += bytes.len();
    }
    let count = c_int::try_from(record.pieces.len().min(PIECES_MAX)).ok()?;
    // SAFETY: paths end with NUL, the slices point into memory that outlives the call, which only reads them.
    unsafe {
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        let fd = libc::open(record.new.as_ptr(), flags, record.mode);
        if fd < 0 {
            return None;
        }
        let written = libc::writev(fd, slices.as_ptr(), count);
        let errno = *libc::__errno_location();
        libc::close(fd);
        if usize::try_from(written).ok() != Some(len) {
            *libc::__errno_location() = if written < 0 { errno } else { libc::ENOSPC };
            return None;
        }
        (libc::rename(record.new.as_ptr(), record.path.as_ptr()) == 0).then_some(())
    }
}

/// Gives the child a file table of its own, with these files and no others.
#[expect(unsafe_code, reason = "raw system calls of a cloned child")]
unsafe fn place_files(files: &[Source]) -> Result<(), Step> {
    let count = c_int::try_from(files.len()).map_err(|_| Step::UnshareFiles)?;
    let given = files.iter().filter_map(|file| match file {
        Source::Fd(fd) => Some(*fd),
        Source::Path(..) => None,
    });
    let last_kept = given.max().unwrap_or(-1).max(count - 1);
    // SAFETY: system calls on descriptors and NUL-terminated paths.
    unsafe {
        // A copy of the table's beginning only: of thousands of units' descriptors none is needed here.
        let first_dropped = (last_kept + 1).unsigned_abs();
        let unshare = libc::CLOSE_RANGE_UNSHARE.cast_signed();
        if libc::close_range(first_dropped, libc::c_uint::MAX, unshare) < 0 {
            return Err(Step::UnshareFiles);
        }
        // First out of the way of every number that is about to be given away, then down to 0, 1, 2, …
        let mut moved = [-1; 64];
        for (index, (file, at)) in files.iter().zip(&mut moved).enumerate() {
            let fd = match file {
                Source::Fd(fd) => *fd,
                Source::Path(path, flags) => libc::open(path.as_ptr(), *flags | libc::O_CLOEXEC),
            };
            *at = if fd >= count || fd < 0 { fd } else { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, count) };
            if *at < 0 {
                return Err(Step::PlaceFile(index));
            }
        }
        for (index, (target, fd)) in (0..count).zip(moved).enumerate() {
            if libc::dup2(fd, target) < 0 {
                return Err(Step::PlaceFile(index));
            }
        }
        if libc::close_range(count.unsigned_abs(), libc::c_uint::MAX, 0) < 0 {
            return Err(Step::UnshareFiles);
        }
    }
    Ok(())
}

/// The most files a child can be given.
pub(super) const FILES_MAX: usize = 64;

fn digits(number: u64, buffer: &mut [u8; DIGITS_MAX]) -> &[u8] {
    let mut at = DIGITS_MAX;
    let mut rest = number;
    for place in (0..DIGITS_MAX).rev() {
        buffer[place] = b'0' + (rest % 10) as u8;
        at = place;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    &buffer[at..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_decimal() {
        let mut buffer = [0; DIGITS_MAX];
        assert_eq!(digits(0, &mut buffer), b"0");
        assert_eq!(digits(4711, &mut buffer), b"4711");
        assert_eq!(digits(u64::MAX, &mut buffer), u64::MAX.to_string().as_bytes());
    }
}

//! A daemon that misbehaves on demand, for the tests of those who have to live with daemons.
//!
//! Without options it runs until SIGTERM or SIGINT and exits with code 0. What it says goes to stdout, one line each.

mod offspring;
mod options;
mod relay;
mod server;

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixDatagram;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use options::Options;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            say_error(&problem);
            return ExitCode::from(64);
        }
    };
    match run(&options) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            say_error(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> io::Result<u8> {
    // Blocked before any thread begins: a signal waits for `wait_for_signal`, and for nobody where it is ignored.
    let signals: SigSet = [Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
    signals.thread_block()?;
    let signal_fd = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    if options.new_session {
        nix::unistd::setsid()?;
    }
    if options.flee {
        offspring::flee()?;
        return Ok(0);
    }
    if let Some(pid_file) = &options.daemonize {
        offspring::daemonize(pid_file, options)?;
        return Ok(options.code);
    }
    if let Some(words) = &options.last_words {
        notify(&words.replace(';', "\n"))?;
        return Ok(options.code);
    }
    announce(options)?;
    server::begin(options)?;
    relay::begin(options);
    if options.close_fds {
        close_all(&signal_fd);
    }
    let _leak = leak(options.leak_mib);
    if options.flood {
        thread::spawn(flood);
    }
    Life::new(options).live(&signal_fd)
}

/// Everything it does once, at its beginning.
fn announce(options: &Options) -> io::Result<()> {
    if let Some(path) = &options.count_file {
        let mut file = OpenOptions::new().append(true).create(true).open(path)?;
        file.write_all(format!("{}\n", std::process::id()).as_bytes())?;
    }
    for name in &options.print_env {
        say(&format!("{name}={}", std::env::var(name).unwrap_or_default()));
    }
    if options.print_cwd {
        say(&std::env::current_dir()?.display().to_string());
    }
    if options.print_fds {
        let mut open: Vec<String> = Vec::new();
        for entry in std::fs::read_dir("/proc/self/fd")? {
            let entry = entry?;
            let target = std::fs::read_link(entry.path()).unwrap_or_default();
            open.push(format!("{}={}", entry.file_name().to_string_lossy(), target.display()));
        }
        open.sort();
        say(&open.join(" "));
    }
    (0..options.print_lines).for_each(|number| say(&format!("line {number}")));
    options.say.iter().for_each(|text| say(text));
    options.complain.iter().for_each(|text| say_error(text));
    if let Some(text) = &options.say_unfinished {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()?;
    }
    let child = offspring::begin(options)?;
    if let Some(main) = &options.main_pid {
        let pid = if main == "child" { child.map(|pid| pid.to_string()).unwrap_or_default() } else { main.clone() };
        notify(&format!("MAINPID={pid}"))?;
    }
    Ok(())
}

/// All but the one it needs to hear its end.
fn close_all(kept: &SignalFd) {
    use std::os::fd::AsRawFd as _;
    for fd in (0..256).filter(|fd| *fd != kept.as_raw_fd()) {
        // Most are not open.
        let _ = nix::unistd::close(fd);
    }
}

/// Memory that is really used.
fn leak(mib: usize) -> Vec<u8> {
    const PAGE: usize = 4096;
    let mut taken = vec![0_u8; mib << 20];
    taken.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
    std::hint::black_box(taken)
}

fn flood() {
    let line = "f".repeat(99) + "\n";
    while io::stdout().write_all(line.as_bytes()).is_ok() {}
}

/// What is still to come, and when.
struct Life<'o> {
    options: &'o Options,
    ready_at: Option<Instant>,
    exit_at: Option<Instant>,
    line_at: Option<Instant>,
    lines: u64,
}

impl<'o> Life<'o> {
    fn new(options: &'o Options) -> Self {
        let now = Instant::now();
        let ready_after = if options.never_ready { None } else { Some(options.ready_after) };
        Self {
            options,
            ready_at: ready_after.filter(|_| options.notify).map(|after| now + after),
            exit_at: options.exit_after.map(|after| now + after),
            line_at: options.print_every.map(|every| now + every),
            lines: 0,
        }
    }

    fn live(mut self, signals: &SignalFd) -> io::Result<u8> {
        loop {
            let next = [self.ready_at, self.exit_at, self.line_at].into_iter().flatten().min();
            if wait_for_signal(signals, next)? && !self.options.ignore_term {
                return self.stop();
            }
            let now = Instant::now();
            if self.ready_at.is_some_and(|at| at <= now) {
                self.ready_at = self.say_ready(now);
            }
            if let Some(every) = self.options.print_every.filter(|_| self.line_at.is_some_and(|at| at <= now)) {
                self.line_at = Some(now + every);
                for _ in 0..self.options.burst.max(1) {
                    say(&format!("tick {}", self.lines));
                    self.lines += 1;
                }
            }
            if self.exit_at.is_some_and(|at| at <= now) {
                if self.options.abort {
                    std::process::abort();
                }
                return Ok(self.options.code);
            }
        }
    }

    /// Says that it is ready, if it is; else when to look again.
    fn say_ready(&self, now: Instant) -> Option<Instant> {
        const LOOK_AGAIN: Duration = Duration::from_millis(10);
        let is_ready = self.options.ready_file.as_ref().is_none_or(|path| path.exists());
        // Nobody listens while its supervisor is away: then it says so again.
        let is_said = is_ready && notify("READY=1").is_ok();
        if is_said { None } else { Some(now + LOOK_AGAIN) }
    }

    fn stop(&self) -> io::Result<u8> {
        if self.options.notify {
            // Whoever started it may have gone since.
            let _ = notify("STOPPING=1");
        }
        say("stopping");
        if let Some(linger) = self.options.linger {
            thread::park_timeout(linger);
        }
        Ok(self.options.code)
    }
}

/// Whether a signal came before `until`.
fn wait_for_signal(signals: &SignalFd, until: Option<Instant>) -> io::Result<bool> {
    let timeout = match until {
        None => PollTimeout::NONE,
        Some(until) => {
            let ms = until.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000);
            PollTimeout::try_from(i32::try_from(ms).unwrap_or(i32::MAX)).unwrap_or(PollTimeout::MAX)
        }
    };
    match poll(&mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)], timeout) {
        Ok(0) | Err(nix::errno::Errno::EINTR) => Ok(false),
        Ok(_) => Ok(signals.read_signal()?.is_some()),
        Err(errno) => Err(errno.into()),
    }
}

fn notify(message: &str) -> io::Result<()> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    UnixDatagram::unbound()?.send_to(message.as_bytes(), path).map(drop)
}

fn say(text: &str) {
    // Whoever reads may be gone: a daemon goes on all the same.
    let _ = io::stdout().write_all(format!("{text}\n").as_bytes());
}

fn say_error(text: &str) {
    let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
}

/// Milliseconds on the command line.
fn ms(text: &str) -> Result<Duration, String> {
    text.parse().map(Duration::from_millis).map_err(|_| format!("{text} is no number of milliseconds"))
}

//! The physical limit: a loop that starts children (posix_spawn, which is vfork and exec), waits for their pidfds and starts them
//! anew; nothing else. `bench bare CHILD FIFO COUNT STOP_TIMEOUT_MS LOG|- MODE…` runs until SIGTERM.

use std::fs::{File, OpenOptions};
use std::io::{PipeReader, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;
use rustix::event::{Timespec, epoll};
use rustix::process::{Pid, PidfdFlags, Signal as Sent, pidfd_open, pidfd_send_signal};

/// What an epoll event means that is no child's index.
const ASKED_TO_END: u64 = u64::MAX;
const OUTPUT: u64 = u64::MAX - 1;
const EVENTS_MAX: usize = 256;

struct Bare {
    words: Vec<String>,
    epoll: OwnedFd,
    children: Vec<Option<(Child, OwnedFd)>>,
    log: Option<Log>,
}

/// One child's output, copied as it is.
struct Log {
    output: PipeReader,
    file: File,
    input: std::io::PipeWriter,
}

pub fn run(words: &[String]) -> Result<()> {
    let [child, fifo, count, stop_timeout_ms, log, mode @ ..] = words else { anyhow::bail!("too few words") };
    let (count, stop_timeout_ms): (usize, u64) = (count.parse()?, stop_timeout_ms.parse()?);
    let signals: SigSet = [Signal::SIGTERM].into_iter().collect();
    signals.thread_block()?;
    let signals = SignalFd::new(&signals)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &signals, epoll::EventData::new_u64(ASKED_TO_END), epoll::EventFlags::IN)?;
    let log = if log == "-" { None } else { Some(Log::open(log)?) };
    if let Some(log) = &log {
        epoll::add(&epoll, &log.output, epoll::EventData::new_u64(OUTPUT), epoll::EventFlags::IN)?;
    }
    let mut words = vec![child.clone(), fifo.clone()];
    words.extend(mode.iter().cloned());
    let mut bare = Bare { words, epoll, children: Vec::new(), log };
    for index in 0..count {
        bare.children.push(None);
        bare.start(index)?;
    }
    bare.keep()?;
    bare.end(Duration::from_millis(stop_timeout_ms))
}

impl Bare {
    #[expect(clippy::disallowed_methods, reason = "this is what all supervisors are measured by")]
    fn start(&mut self, index: usize) -> Result<()> {
        let mut command = Command::new(&self.words[0]);
        command.arg(&self.words[1]).arg(index.to_string()).args(&self.words[2..]);
        if let Some(log) = &self.log {
            command.stdout(Stdio::from(log.input.try_clone()?));
        }
        let child = command.spawn()?;
        let pid = Pid::from_raw(i32::try_from(child.id())?).context("no pid")?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        epoll::add(&self.epoll, &pidfd, epoll::EventData::new_u64(index as u64), epoll::EventFlags::IN)?;
        self.children[index] = Some((child, pidfd));
        Ok(())
    }

    /// Starts anew whatever ends, until SIGTERM.
    fn keep(&mut self) -> Result<()> {
        loop {
            for event in self.wait(None)? {
                match event {
                    ASKED_TO_END => return Ok(()),
                    OUTPUT => self.copy()?,
                    index => {
                        let index = usize::try_from(index)?;
                        self.reap(index)?;
                        self.start(index)?;
                    }
                }
            }
        }
    }

    /// SIGTERM to all, then SIGKILL to who is left.
    fn end(&mut self, timeout: Duration) -> Result<()> {
        self.signal(Sent::TERM);
        let mut deadline = Some(Instant::now() + timeout);
        while self.children.iter().any(Option::is_some) {
            for event in self.wait(deadline)? {
                match event {
                    ASKED_TO_END => {}
                    OUTPUT => self.copy()?,
                    index => self.reap(usize::try_from(index)?)?,
                }
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                self.signal(Sent::KILL);
                deadline = None;
            }
        }
        if self.log.is_some() { self.copy() } else { Ok(()) }
    }

    fn signal(&self, signal: Sent) {
        for (_, pidfd) in self.children.iter().flatten() {
            // One that has just ended needs none.
            let _ = pidfd_send_signal(pidfd.as_fd(), signal);
        }
    }

    fn reap(&mut self, index: usize) -> Result<()> {
        if let Some((mut child, _pidfd)) = self.children[index].take() {
            child.wait()?;
        }
        Ok(())
    }

    fn wait(&self, deadline: Option<Instant>) -> Result<Vec<u64>> {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.map(Timespec::try_from).transpose()?;
        let mut events = Vec::with_capacity(EVENTS_MAX);
        epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), left.as_ref())?;
        Ok(events.iter().map(|event| event.data.u64()).collect())
    }

    fn copy(&mut self) -> Result<()> {
        let Some(log) = &mut self.log else { return Ok(()) };
        let mut bytes = [0; 65536];
        // All its writers may have gone, but ourselves: then there is nothing to read.
        let mut ready = [rustix::event::PollFd::new(&log.output, rustix::event::PollFlags::IN)];
        if rustix::event::poll(&mut ready, Some(&Timespec::default()))? > 0 {
            let read = log.output.read(&mut bytes)?;
            log.file.write_all(&bytes[..read])?;
        }
        Ok(())
    }
}

impl Log {
    fn open(path: &str) -> Result<Self> {
        let (output, input) = std::io::pipe()?;
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        Ok(Self { output, file, input })
    }
}

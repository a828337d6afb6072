//! The receiving end of the sd_notify protocol: datagrams whose sender the kernel vouches for.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg, setsockopt, sockopt};

/// A longer message is cut off; what we understand is short.
const MESSAGE_BYTES_MAX: usize = 4096;

/// A bound notify socket.
#[derive(Debug)]
pub(crate) struct NotifySocket {
    socket: UnixDatagram,
    path: PathBuf,
}

/// What a process said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// The process, as the kernel knows it.
    pub(crate) pid: u32,
    /// What, in its order.
    pub(crate) notes: Vec<Note>,
}

/// One assignment of a message. Those we do not act on are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Note {
    /// `READY=1`
    Ready,
    /// `RELOADING=1`
    Reloading,
    /// `STOPPING=1`
    Stopping,
    /// `STATUS=…`
    Status(String),
    /// `EXTEND_TIMEOUT_USEC=…`
    ExtendTimeout(Duration),
    /// `WATCHDOG=1`
    Watchdog,
    /// `WATCHDOG=trigger`
    WatchdogTrigger,
    /// `WATCHDOG_USEC=…`
    WatchdogTimeout(Duration),
    /// `MAINPID=…`
    MainPid(u32),
    /// `X_RBEE_PAYLOAD=PID`: that process, none of its own, does the work.
    Payload(u32),
    /// `X_RBEE_END=…`: it is about to end, for that reason.
    End(SaidEnd),
    /// What the protocol knows but nobody acts on.
    Ignored(&'static str),
}

/// What no exit code can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SaidEnd {
    /// `unavailable`: what it needs is not there; its status says what.
    Unavailable,
    /// `out-of-memory`: the kernel killed its payload for want of memory.
    OutOfMemory,
}

/// Known to the protocol. A reload's `MONOTONIC_USEC` is for those who ordered it by a signal, and we order none; descriptors
/// are not kept, and nobody has to wait for a barrier: whatever is sent along is closed on arrival.
const IGNORED: [&str; 9] = [
    "MONOTONIC_USEC",
    "ERRNO",
    "EXIT_STATUS",
    "BUSERROR",
    "VARLINKERROR",
    "FDSTORE",
    "FDSTOREREMOVE",
    "FDNAME",
    "BARRIER",
];

impl NotifySocket {
    /// Binds; one that an earlier supervisor left is replaced.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        crate::files::remove(path)?;
        let socket = UnixDatagram::bind(path)?;
        socket.set_nonblocking(true)?;
        setsockopt(&socket, sockopt::PassCred, &true)?;
        Ok(Self { socket, path: path.to_owned() })
    }

    /// Where processes send to.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The next message that is there; `WouldBlock` when there is none.
    pub(crate) fn receive(&self) -> io::Result<Message> {
        let mut buffer = [0_u8; MESSAGE_BYTES_MAX];
        // Room for credentials only: the kernel closes any descriptor that somebody sends along.
        let mut control = cmsg_space!(UnixCredentials);
        loop {
            let mut slices = [IoSliceMut::new(&mut buffer)];
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
            let (pid, len) = match recvmsg::<()>(self.socket.as_raw_fd(), &mut slices, Some(&mut control), flags) {
                Ok(received) => {
                    let sender = received.cmsgs().ok().and_then(|mut messages| {
                        messages.find_map(|message| match message {
                            ControlMessageOwned::ScmCredentials(credentials) => u32::try_from(credentials.pid()).ok(),
                            _ => None,
                        })
                    });
                    (sender, received.bytes)
                }
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            if let Some(pid) = pid {
                return Ok(Message { pid, notes: parse(&buffer[..len]) });
            }
        }
    }

    /// Removes the socket's file.
    pub(crate) fn remove(self) -> io::Result<()> {
        crate::files::remove(&self.path)
    }
}

impl AsFd for NotifySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn parse(message: &[u8]) -> Vec<Note> {
    let text = String::from_utf8_lossy(message);
    text.lines()
        .filter_map(|line| match line.split_once('=')? {
            ("READY", "1") => Some(Note::Ready),
            ("RELOADING", "1") => Some(Note::Reloading),
            ("STOPPING", "1") => Some(Note::Stopping),
            ("STATUS", status) => Some(Note::Status(status.to_owned())),
            ("EXTEND_TIMEOUT_USEC", usec) => duration(usec).map(Note::ExtendTimeout),
            ("WATCHDOG", "1") => Some(Note::Watchdog),
            ("WATCHDOG", "trigger") => Some(Note::WatchdogTrigger),
            ("WATCHDOG_USEC", usec) => duration(usec).map(Note::WatchdogTimeout),
            ("MAINPID", pid) => pid.parse().ok().map(Note::MainPid),
            ("X_RBEE_PAYLOAD", pid) => pid.parse().ok().map(Note::Payload),
            ("X_RBEE_END", "unavailable") => Some(Note::End(SaidEnd::Unavailable)),
            ("X_RBEE_END", "out-of-memory") => Some(Note::End(SaidEnd::OutOfMemory)),
            (name, _) => IGNORED.iter().find(|known| **known == name).map(|known| Note::Ignored(known)),
        })
        .collect()
}

fn duration(usec: &str) -> Option<Duration> {
    usec.parse().ok().map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sender_is_the_one_the_kernel_saw() {
        let dir = tempfile::tempdir().unwrap();
        let socket = NotifySocket::bind(&dir.path().join("notify.sock")).unwrap();
        assert_eq!(socket.receive().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let sender = UnixDatagram::unbound().unwrap();
        sender.send_to(b"STATUS=warm\nREADY=1\nMAINPID=1", socket.path()).unwrap();
        let message = socket.receive().unwrap();
        assert_eq!(message.pid, std::process::id());
        assert_eq!(message.notes, [Note::Status("warm".to_owned()), Note::Ready, Note::MainPid(1)]);
    }

    #[test]
    fn what_is_not_understood_is_left_out() {
        let notes =
            parse(b"READY=0\nnonsense\nEXTEND_TIMEOUT_USEC=1500000\nEXTEND_TIMEOUT_USEC=-1\nSTOPPING=1\n\xff=\xfe");
        assert_eq!(notes, [Note::ExtendTimeout(Duration::from_millis(1500)), Note::Stopping]);
    }

    #[test]
    fn every_word_of_the_protocol_is_known() {
        let notes = parse(
            b"X_RBEE_PAYLOAD=7\nX_RBEE_END=unavailable\nX_RBEE_END=out-of-memory\nX_RBEE_END=x\nRELOADING=1\nMONOTONIC_USEC=7\nWATCHDOG=1\nWATCHDOG=trigger\nWATCHDOG_USEC=20000\nMAINPID=42\nERRNO=2\nEXIT_STATUS=3",
        );
        let expected = [
            Note::Payload(7),
            Note::End(SaidEnd::Unavailable),
            Note::End(SaidEnd::OutOfMemory),
            Note::Reloading,
            Note::Ignored("MONOTONIC_USEC"),
            Note::Watchdog,
            Note::WatchdogTrigger,
            Note::WatchdogTimeout(Duration::from_millis(20)),
            Note::MainPid(42),
            Note::Ignored("ERRNO"),
            Note::Ignored("EXIT_STATUS"),
        ];
        assert_eq!(notes, expected);
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(NotifySocket::bind(&dir.path().join("x".repeat(200))).is_err());
    }
}

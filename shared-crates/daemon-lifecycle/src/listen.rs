//! Listening sockets that outlive the daemon behind them: bound here, inherited by each run.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{Backlog, getsockopt, listen, sockopt};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};

use crate::process::Process;

/// Connections that may wait while a daemon is away.
const BACKLOG_MAX: i32 = 1024;

/// Where a daemon finds its first inherited socket.
const FIRST_SOCKET_FD: i32 = 3;

/// Descriptors of a daemon that are looked at for it.
const FDS_MAX: usize = 4096;

/// A bound socket and its address.
#[derive(Debug)]
pub(crate) struct ListenSocket {
    listener: TcpListener,
    address: SocketAddr,
}

impl ListenSocket {
    /// Binds; with port 0 the kernel chooses one.
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listen(&listener, Backlog::new(BACKLOG_MAX)?)?;
        Ok(Self { address: listener.local_addr()?, listener })
    }

    /// Shares the socket that a running daemon inherited from an earlier supervisor, if the kernel lets us and it is there: where it
    /// was passed, or wherever the daemon has moved it.
    pub(crate) fn share_of(process: &Process, address: SocketAddr) -> Option<Self> {
        Self::at_fd(process, FIRST_SOCKET_FD, address).or_else(|| {
            let fds = std::fs::read_dir(format!("/proc/{}/fd", process.pid())).ok()?;
            fds.flatten().take(FDS_MAX).find_map(|fd| {
                let target = std::fs::read_link(fd.path()).ok()?;
                let is_socket = target.as_os_str().as_encoded_bytes().starts_with(b"socket:");
                let number = fd.file_name().to_str()?.parse().ok()?;
                // Only said to be one: what is held is asked for itself.
                is_socket.then(|| Self::at_fd(process, number, address))?
            })
        })
    }

    fn at_fd(process: &Process, fd: i32, address: SocketAddr) -> Option<Self> {
        let fd: OwnedFd = pidfd_getfd(process, fd, PidfdGetfdFlags::empty()).ok()?;
        // A connection to it has the same address of its own.
        if !getsockopt(&fd, sockopt::AcceptConn).ok()? {
            return None;
        }
        let listener = TcpListener::from(fd);
        (listener.local_addr().ok()? == address).then_some(Self { listener, address })
    }

    /// Where it listens, with the real port.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl AsFd for ListenSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

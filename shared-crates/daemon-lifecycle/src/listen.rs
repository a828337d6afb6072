//! Listening sockets that outlive the daemon behind them: bound here, inherited by each run.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{Backlog, listen};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};

use crate::process::Process;

/// Connections that may wait while a daemon is away.
const BACKLOG_MAX: i32 = 1024;

/// Where a daemon finds its first inherited socket.
const FIRST_SOCKET_FD: i32 = 3;

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

    /// Shares the socket that a running daemon inherited from an earlier supervisor, if the kernel lets us and it is the one meant.
    pub(crate) fn share_of(process: &Process, address: SocketAddr) -> Option<Self> {
        let fd: OwnedFd = pidfd_getfd(process, FIRST_SOCKET_FD, PidfdGetfdFlags::empty()).ok()?;
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

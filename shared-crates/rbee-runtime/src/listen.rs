//! Our listening socket: the one our supervisor opened for us, else one we bind ourselves.
//!
//! An inherited socket (LISTEN_FDS) keeps the port over our restarts: connections made meanwhile wait.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::unix::net::UnixStream as StdUnixStream;

use listenfd::ListenFd;
use tokio::net::{TcpListener, UnixStream};

use crate::notify;

/// Why there is no socket to listen on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Another socket has the port.
    #[error("port {port} of {addr} is taken{holder}", port = addr.port(), addr = addr.ip())]
    Taken {
        /// Where we wanted to listen.
        addr: SocketAddr,
        /// Who has it, where that can be seen.
        holder: Holder,
    },
    /// The system refuses for another reason.
    #[error("cannot listen on {addr}")]
    Bind {
        /// Where we wanted to listen.
        addr: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Others could reach us, and nothing would ask them who they are.
    #[error("refusing to listen on {addr} without a token: other machines could reach it")]
    Unprotected {
        /// Where we wanted to listen.
        addr: SocketAddr,
    },
    /// The socket that was passed to us is of no use.
    #[error("the inherited socket (LISTEN_FDS) is not usable")]
    Inherited {
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl ListenError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Taken { .. } => Some("stop that program, or set another `listen` address in rbee.toml"),
            Self::Unprotected { .. } => {
                Some("set RBEE_TOKEN, make a token with `rbee-keeper config init`, or listen on 127.0.0.1")
            }
            Self::Bind { .. } | Self::Inherited { .. } => None,
        }
    }
}

/// The process that has a port, as far as it can be seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Holder(Option<(u32, String)>);

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some((pid, name)) => write!(f, " by {name} (pid {pid})"),
            None => Ok(()),
        }
    }
}

/// The socket passed by our supervisor, else one bound to `addr`.
///
/// `protected`: requests need a token. Without it, only a loopback address is accepted.
///
/// # Errors
/// See [`ListenError`].
pub fn listener(addr: SocketAddr, protected: bool) -> Result<TcpListener, ListenError> {
    let inherited = ListenFd::from_env().take_tcp_listener(0).map_err(|source| ListenError::Inherited { source })?;
    let is_kept = std::env::var("LISTEN_FDNAMES").is_ok_and(|names| names == notify::KEPT_SOCKET);
    let inherited = match inherited {
        // Of our last run, by a service manager: another address was configured since.
        Some(socket) if is_kept && !is_at(&socket, addr) => {
            notify::forget_socket();
            None
        }
        other => other,
    };
    let socket = match inherited {
        Some(socket) => {
            let addr = socket.local_addr().map_err(|source| ListenError::Inherited { source })?;
            refuse_unprotected(addr, protected)?;
            socket
        }
        None => {
            let socket = bind(addr, protected)?;
            notify::keep_socket(&socket);
            socket
        }
    };
    register(socket).map_err(|source| ListenError::Bind { addr, source })
}

/// The socket of the process whose place we take, and the line to it.
///
/// # Errors
/// [`ListenError::Inherited`] when it did not pass them.
pub fn from_predecessor() -> Result<(TcpListener, UnixStream), ListenError> {
    const UNIX_FAMILY: i32 = 1;
    const STREAM: i32 = 1;
    let failed = |source| ListenError::Inherited { source };
    let missing = || failed(io::ErrorKind::NotFound.into());
    let mut passed = ListenFd::from_env();
    let socket = passed.take_tcp_listener(0).map_err(failed)?.ok_or_else(missing)?;
    let line = passed.take_custom::<StdUnixStream>(1, UNIX_FAMILY, STREAM, "line to the process before us");
    let line = line.map_err(failed)?.ok_or_else(missing)?;
    line.set_nonblocking(true).map_err(failed)?;
    Ok((register(socket).map_err(failed)?, UnixStream::from_std(line).map_err(failed)?))
}

/// A socket bound to `addr`, to be passed to a child or served from.
///
/// # Errors
/// See [`ListenError`].
pub fn bind(addr: SocketAddr, protected: bool) -> Result<StdListener, ListenError> {
    refuse_unprotected(addr, protected)?;
    StdListener::bind(addr).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::Taken { addr, holder: holder_of(addr.port()) },
        _ => ListenError::Bind { addr, source },
    })
}

/// Whether that is where we shall listen; any port is right where none is asked for.
fn is_at(socket: &StdListener, addr: SocketAddr) -> bool {
    socket.local_addr().is_ok_and(|at| at == addr || (addr.port() == 0 && at.ip() == addr.ip()))
}

fn register(socket: StdListener) -> io::Result<TcpListener> {
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket)
}

fn refuse_unprotected(addr: SocketAddr, protected: bool) -> Result<(), ListenError> {
    if protected || addr.ip().is_loopback() { Ok(()) } else { Err(ListenError::Unprotected { addr }) }
}

/// Who listens on a TCP port of this machine. Only processes whose file table we may read are found.
#[must_use]
pub fn holder_of(port: u16) -> Holder {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .flat_map(|table| listening_inodes(&table, port))
        .collect();
    if inodes.is_empty() {
        return Holder::default();
    }
    let wanted: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let Ok(processes) = std::fs::read_dir("/proc") else { return Holder::default() };
    let found = processes.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let holds = std::fs::read_dir(entry.path().join("fd")).ok()?.flatten().any(|fd| {
            std::fs::read_link(fd.path()).is_ok_and(|to| wanted.iter().any(|w| to.as_os_str() == w.as_str()))
        });
        let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        holds.then(|| (pid, name.trim().to_owned()))
    });
    Holder(found)
}

/// Inodes of the sockets that listen on `port`, from a table of `/proc/net/tcp`'s form.
fn listening_inodes(table: &str, port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let suffix = format!(":{port:04X}");
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let listens = fields.get(1)?.ends_with(&suffix) && *fields.get(3)? == LISTEN;
            listens.then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{ListenError, bind, holder_of, is_at, listening_inodes};

    #[test]
    fn a_taken_port_names_its_holder() {
        let first = bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
        let addr = first.local_addr().unwrap();
        let error = bind(addr, false).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with(&format!("port {} of 127.0.0.1 is taken by ", addr.port())), "{text}");
        assert!(text.ends_with(&format!("(pid {})", std::process::id())), "{text}");
        assert!(error.hint().is_some());
    }

    /// SERV-16
    #[test]
    fn a_kept_socket_is_used_where_we_still_listen_there() {
        let socket = bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
        let at = socket.local_addr().unwrap();
        for (wanted, is_right) in
            [(at, true), ("127.0.0.1:0".parse().unwrap(), true), ("127.0.0.2:0".parse().unwrap(), false)]
        {
            assert_eq!(is_at(&socket, wanted), is_right, "{wanted}");
        }
    }

    #[test]
    fn nobody_holds_a_free_port() {
        let port = bind("127.0.0.1:0".parse().unwrap(), false).unwrap().local_addr().unwrap().port();
        assert_eq!(holder_of(port).to_string(), "");
    }

    #[test]
    fn other_machines_need_a_token() {
        let everywhere = "0.0.0.0:0".parse().unwrap();
        assert!(matches!(bind(everywhere, false), Err(ListenError::Unprotected { .. })));
        assert!(bind(everywhere, true).is_ok());
    }

    #[test]
    fn only_listening_sockets_of_that_port_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1E99 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0        0 4711 1\n\
             1: 0100007F:1E99 0100007F:1E9A 01 00000000:00000000 00:00000000 00000000  0        0 4712 1\n\
             2: 0100007F:1E9B 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0        0 4713 1\n";
        assert_eq!(listening_inodes(table, 7833), ["4711"]);
    }
}

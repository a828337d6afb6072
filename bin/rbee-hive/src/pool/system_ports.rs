//! Asks the system which ports are free, by making a listener and dropping it.

use std::net::{IpAddr, Ipv4Addr, TcpListener};

use crate::ports::System;

/// Ports of this machine, as one replica sees them.
#[derive(Debug)]
pub(super) struct SystemPorts {
    /// Where workers listen besides loopback.
    pub ip: IpAddr,
    /// The port that our own supervisor holds for the replica: busy, but its own.
    pub own: Option<u16>,
}

impl System for SystemPorts {
    fn is_free(&mut self, port: u16) -> bool {
        let can_bind = |ip: IpAddr| TcpListener::bind((ip, port)).is_ok();
        self.own == Some(port) || (can_bind(self.ip) && can_bind(IpAddr::V4(Ipv4Addr::LOCALHOST)))
    }

    fn any_free(&mut self) -> Option<u16> {
        let listener = TcpListener::bind((self.ip, 0)).ok()?;
        listener.local_addr().ok().map(|address| address.port())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_with_a_listener_is_busy_unless_it_is_our_own() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut system = SystemPorts { ip: "127.0.0.1".parse().unwrap(), own: None };
        assert!(!system.is_free(port));
        system.own = Some(port);
        assert!(system.is_free(port));
        system = SystemPorts { ip: "0.0.0.0".parse().unwrap(), own: None };
        assert!(!system.is_free(port));
        let free = system.any_free().unwrap();
        assert!(system.is_free(free));
    }
}

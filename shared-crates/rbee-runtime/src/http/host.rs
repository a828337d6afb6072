//! The Host header must name us. A web page that points a DNS name of its own at this machine (DNS
//! rebinding) makes browsers send its name here; we answer it nothing.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::HOST;
use http::uri::Authority;
use rbee_api::{ApiError, ErrorCode};

use super::HttpError;

/// Names and addresses that requests may put in their Host header. Ports do not matter.
#[derive(Debug, Clone)]
pub struct AllowedHosts {
    names: Arc<[String]>,
    any_address: bool,
}

impl AllowedHosts {
    /// The loopback names and addresses, the address we listen on, and `extra` from the configuration.
    ///
    /// A server that listens on all addresses accepts any literal address: a rebinding attack needs a name.
    #[must_use]
    pub fn new(listen: SocketAddr, extra: &[String]) -> Self {
        let listen_ip = listen.ip();
        let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
        names.push(listen_ip.to_string());
        names.extend(extra.iter().map(|name| normal(name).to_ascii_lowercase()));
        Self { names: names.into(), any_address: listen_ip.is_unspecified() }
    }

    /// Whether a Host header's value (with or without port) is ours.
    #[must_use]
    pub fn allows(&self, host: &str) -> bool {
        let Ok(authority) = host.parse::<Authority>() else { return false };
        // A userinfo part is no part of a Host header; hosts never have one.
        if authority.as_str().contains('@') {
            return false;
        }
        let name = normal(authority.host()).to_ascii_lowercase();
        let name = name.strip_suffix('.').unwrap_or(&name);
        match name.parse::<IpAddr>() {
            Ok(ip) => self.any_address || ip.is_loopback() || self.names.contains(&ip.to_string()),
            Err(_) => self.names.iter().any(|known| known == name) || name.ends_with(".localhost"),
        }
    }
}

fn normal(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

pub(super) async fn check(hosts: AllowedHosts, request: Request, next: Next) -> Response {
    let host = request.headers().get(HOST).and_then(|value| value.to_str().ok());
    // HTTP/2 carries the host in the URI.
    let host = host.or_else(|| request.uri().authority().map(Authority::as_str)).unwrap_or_default();
    if hosts.allows(host) {
        return next.run(request).await;
    }
    let message = format!("this server does not answer for the host `{host}`; add it to `hosts` in rbee.toml");
    HttpError(ApiError::new(ErrorCode::ForbiddenHost, message)).into_response()
}

#[cfg(test)]
mod tests {
    use super::AllowedHosts;

    #[test]
    fn loopback_and_configured_names_pass_others_do_not() {
        let hosts = AllowedHosts::new("10.0.0.5:7833".parse().unwrap(), &["Box.example".to_owned()]);
        for (host, allowed) in [
            ("localhost", true),
            ("LOCALHOST:7833", true),
            ("127.0.0.1:1", true),
            ("127.0.0.2", true),
            ("[::1]:7833", true),
            ("10.0.0.5:7833", true),
            ("box.example:80", true),
            ("box.example.", true),
            ("10.0.0.6", false),
            ("evil.example", false),
            ("localhost.evil.example", false),
            ("evil.example@localhost", false),
            ("", false),
            ("a b", false),
        ] {
            assert_eq!(hosts.allows(host), allowed, "{host:?}");
        }
    }

    #[test]
    fn a_server_on_all_addresses_takes_any_address_but_no_strange_name() {
        let hosts = AllowedHosts::new("0.0.0.0:7833".parse().unwrap(), &[]);
        assert!(hosts.allows("192.168.1.9:7833"));
        assert!(!hosts.allows("evil.example"));
    }
}

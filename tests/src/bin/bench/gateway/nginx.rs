//! nginx as a plain proxy, the way beside queen.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use rbee_tests::{ports, processes, wait};
use rustix::process::Signal;
use tempfile::TempDir;

const UP_WITHIN: Duration = Duration::from_secs(30);

/// nginx as a plain proxy in front of one worker.
pub struct Nginx {
    child: Child,
    folder: TempDir,
    pub address: SocketAddr,
}

impl Nginx {
    /// Starts it. `Err`: why it cannot be.
    #[expect(clippy::disallowed_methods, reason = "the bench starts what it measures, and ends it")]
    pub fn start(upstream: SocketAddr) -> Result<Self> {
        let folder = TempDir::with_prefix("rbee-bench-nginx-")?;
        let address = SocketAddr::from(([127, 0, 0, 1], ports::free()));
        fs::write(folder.path().join("nginx.conf"), configuration(address, upstream))?;
        let child = Command::new("nginx")
            .args(["-e", "stderr", "-c", "nginx.conf", "-p"])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("said"))?)
            .spawn()
            .context("nginx is not installed (Debian: apt-get install nginx-light)")?;
        let nginx = Self { child, folder, address };
        wait::until("nginx", UP_WITHIN, || TcpStream::connect(address).ok().map(drop));
        Ok(nginx)
    }

    /// Master and workers.
    pub fn pids(&self) -> Vec<u32> {
        let master = self.child.id();
        let children = fs::read_to_string(format!("/proc/{master}/task/{master}/children")).unwrap_or_default();
        std::iter::once(master).chain(children.split_whitespace().filter_map(|pid| pid.parse().ok())).collect()
    }

    /// What it complained about.
    pub fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("said")).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // SIGTERM: killed, the master would leave its workers.
        processes::send(self.child.id(), Signal::TERM);
        let _ = self.child.wait();
    }
}

/// As people write it in front of a server that streams: connections are kept, nothing is buffered or logged.
fn configuration(listen: SocketAddr, upstream: SocketAddr) -> String {
    format!(
        "daemon off;\nworker_processes auto;\npid nginx.pid;\nerror_log stderr error;\nworker_rlimit_nofile 16384;\n\
         events {{ worker_connections 8192; }}\nhttp {{\n  access_log off;\n  client_body_temp_path body;\n  proxy_temp_path proxy;\n  \
         fastcgi_temp_path fastcgi;\n  uwsgi_temp_path uwsgi;\n  scgi_temp_path scgi;\n  keepalive_requests 1000000;\n  \
         upstream mock {{ server {upstream}; keepalive 512; keepalive_requests 1000000; }}\n  server {{\n    listen {listen};\n    \
         location / {{\n      proxy_pass http://mock;\n      proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n      \
         proxy_buffering off;\n    }}\n  }}\n}}\n"
    )
}

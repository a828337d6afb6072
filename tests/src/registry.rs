//! A registry of one image, on a port of its own: enough of the protocol for an engine to pull it, as slowly as a test wants.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

/// An engine that stops in the middle of a request is not waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is served.
struct Served {
    manifest: Vec<u8>,
    config: Vec<u8>,
    layer: Vec<u8>,
    /// Whether the second half of the layer may go out.
    gate: Mutex<bool>,
    opened: Condvar,
}

/// A running registry. Its thread ends with the test's process.
pub struct Registry {
    served: Arc<Served>,
    port: u16,
}

impl Registry {
    /// Serves an image whose only layer is this archive. Half of it goes out; the rest waits for [`Registry::open`].
    ///
    /// # Panics
    /// When there is no port.
    pub fn begin(layer: Vec<u8>) -> Self {
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let layer_digest = digest(&layer);
        let config = serde_json::json!({
            "architecture": architecture, "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [layer_digest]},
        });
        let config = config.to_string().into_bytes();
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {
                "mediaType": "application/vnd.docker.container.image.v1+json", "size": config.len(), "digest": digest(&config),
            },
            "layers": [{
                "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": layer.len(), "digest": layer_digest,
            }],
        });
        let manifest = manifest.to_string().into_bytes();
        let served = Arc::new(Served { manifest, config, layer, gate: Mutex::new(false), opened: Condvar::new() });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let of_thread = Arc::clone(&served);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let served = Arc::clone(&of_thread);
                // An engine asks for several things at once.
                thread::spawn(move || served.answer(stream));
            }
        });
        Self { served, port }
    }

    /// The image's whole name.
    pub fn image(&self) -> String {
        format!("127.0.0.1:{}/small/image:1", self.port)
    }

    /// Lets the rest of the layer go out.
    ///
    /// # Panics
    /// When a thread of the registry has panicked.
    pub fn open(&self) {
        *self.served.gate.lock().unwrap() = true;
        self.served.opened.notify_all();
    }
}

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

impl Served {
    fn answer(&self, mut stream: TcpStream) -> Option<()> {
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).ok()?;
            head.push(byte[0]);
            if head[0] == 0x16 {
                // It begins with TLS; told that this is HTTP, it begins anew without.
                return stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n").ok();
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut words = head.split(' ');
        let (verb, path) = (words.next()?, words.next()?);
        let (kind, body) = match path.rsplit_once('/')? {
            ("/v2", "") => ("application/json", b"{}".as_slice()),
            (rest, _) if rest.ends_with("/manifests") => (MANIFEST, self.manifest.as_slice()),
            (_, wanted) if wanted == digest(&self.config) => ("application/json", self.config.as_slice()),
            (_, wanted) if wanted == digest(&self.layer) => ("application/octet-stream", self.layer.as_slice()),
            _ => {
                return stream
                    .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    .ok();
            }
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nDocker-Content-Digest: {}\r\n\
             Docker-Distribution-Api-Version: registry/2.0\r\nConnection: close\r\n\r\n",
            body.len(),
            digest(body)
        );
        stream.write_all(head.as_bytes()).ok()?;
        if verb == "HEAD" {
            return Some(());
        }
        let is_layer = body.len() == self.layer.len();
        let (first, second) = body.split_at(if is_layer { body.len() / 2 } else { body.len() });
        stream.write_all(first).ok()?;
        if is_layer {
            let gate = self.gate.lock().unwrap();
            drop(self.opened.wait_timeout_while(gate, PATIENCE, |is_open| !*is_open).unwrap());
        }
        stream.write_all(second).ok()
    }
}

fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

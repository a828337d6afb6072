//! A file from the web: streamed to disk, hashed on the way, its announced length held to.

use std::path::Path;
use std::time::Duration;

use ureq::tls::{RootCerts, TlsConfig};

use crate::progress::{Reporter, Stage};
use crate::{ModelError, Sha256Digest};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
const HEADERS_TIMEOUT: Duration = Duration::from_secs(60);
const REDIRECTS_MAX: u32 = 10;

/// Downloads `url` into `target`.
pub(super) fn download(
    url: &str,
    bearer: Option<&str>,
    target: &Path,
    reporter: &Reporter,
) -> Result<Sha256Digest, ModelError> {
    let failed = |source| ModelError::Http { url: url.to_owned(), source: Box::new(source) };
    // The machine's own certificates: a company's proxy often has one of its own. Proxies come from the environment.
    let agent = ureq::Agent::config_builder()
        .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_recv_response(Some(HEADERS_TIMEOUT))
        .max_redirects(REDIRECTS_MAX)
        .http_status_as_error(false)
        .user_agent(concat!("rbee/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent();
    reporter.tell(Stage::Downloading, 0, None)?;
    let mut request = agent.get(url);
    if let Some(bearer) = bearer {
        // ureq drops this header when a redirect leaves the host.
        request = request.header("authorization", format!("Bearer {bearer}"));
    }
    let response = request.call().map_err(failed)?;
    if response.status() != 200 {
        return Err(ModelError::Status { url: url.to_owned(), status: response.status().as_u16() });
    }
    let total_bytes = response.body().content_length();
    // Models are larger than ureq's default limit; what bounds them is the disk.
    let mut body = response.into_body().into_with_config().limit(u64::MAX).reader();
    let (digest, done_bytes) = super::store(&mut body, "download to", target, target, |done_bytes| {
        reporter.tell(Stage::Downloading, done_bytes, total_bytes)
    })?;
    match total_bytes {
        Some(total_bytes) if total_bytes != done_bytes => {
            Err(ModelError::BrokeOff { url: url.to_owned(), done_bytes, total_bytes })
        }
        _ => Ok(digest),
    }
}

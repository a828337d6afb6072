//! Typed client of the control API, for keeper (queen or a lone hive) and for hives (queen).

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use reqwest::{RequestBuilder, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::control::{
    DrainReply, DrainRequest, HiveUpgradeReply, HiveUpgradeRequest, LogQuery, ReloadReply, ReloadRequest, ScaleRequest,
    ShutdownRequest, UpgradeReply, UpgradeRequest, Verb, VerbReply, VerbRequest, WhyReply,
};
use crate::error::{ErrorBody, ErrorDetail};
use crate::report::{Period, Report, ReportQuery};
use crate::{Assignment, FleetStatus, Heartbeat, HeartbeatReply, WorkerRef};

/// A report is made of a week's records of every hive.
const REPORT_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing answered at all.
    #[error("no answer from {url}")]
    Unreachable {
        /// What was called.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The call took longer than its limit.
    #[error("{url} did not answer in time")]
    TimedOut {
        /// What was called.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The server answered with an error body.
    #[error("{}", detail.message)]
    Api {
        /// HTTP status.
        status: u16,
        /// What it said.
        detail: Box<ErrorDetail>,
    },
    /// The server answered with something else than this API: another program has the port.
    #[error("{url} answered {status}, but not as rbee does")]
    NotRbee {
        /// What was called.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// The answer broke off or is not of the form expected.
    #[error("the answer of {url} is broken")]
    BrokenAnswer {
        /// What was called.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
}

/// Calls one daemon's control API.
#[derive(Debug, Clone)]
pub struct ControlClient {
    http: reqwest::Client,
    base_url: String,
    token: Option<String>,
    idempotency_key: Option<String>,
}

impl ControlClient {
    /// A client of `base_url` (such as `http://127.0.0.1:7833`).
    ///
    /// # Errors
    /// When the HTTP client cannot be built.
    pub fn new(base_url: &str, token: Option<String>) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder().connect_timeout(Duration::from_secs(5)).no_proxy().build()?;
        Ok(Self { http, base_url: base_url.trim_end_matches('/').to_owned(), token, idempotency_key: None })
    }

    /// The same client for one change: however often that is asked for, it is made once.
    #[must_use]
    pub fn once(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// Where the calls go.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// The whole tree.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn status(&self) -> Result<FleetStatus, ClientError> {
        self.json(self.get("/api/v1/status").timeout(Duration::from_secs(10))).await
    }

    /// Carries out a verb on the workers named and waits as long as the request says.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn worker_verb(
        &self,
        target: &WorkerRef,
        verb: Verb,
        request: &VerbRequest,
    ) -> Result<VerbReply, ClientError> {
        let builder = self.post(&format!("/api/v1/workers/{}/{verb}", target.name), request).query(&selector(target));
        self.json(builder.timeout(longer_than(request.wait_ms))).await
    }

    /// Sets the number of replicas.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn scale(&self, name: &str, request: &ScaleRequest) -> Result<VerbReply, ClientError> {
        let builder = self.post(&format!("/api/v1/workers/{name}/scale"), request);
        self.json(builder.timeout(longer_than(request.wait_ms))).await
    }

    /// Log lines of a worker, as bytes of text; endless with `follow`.
    ///
    /// # Errors
    /// See [`ClientError`]; also for each piece.
    pub async fn worker_logs(
        &self,
        name: &str,
        query: &LogQuery,
    ) -> Result<impl Stream<Item = Result<Bytes, ClientError>> + use<>, ClientError> {
        let response = self.send(self.get(&format!("/api/v1/workers/{name}/logs")).query(query)).await?;
        let url = response.url().to_string();
        Ok(response
            .bytes_stream()
            .map(move |piece| piece.map_err(|source| ClientError::BrokenAnswer { url: url.clone(), source })))
    }

    /// How the workers named came to be as they are.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn worker_why(&self, target: &WorkerRef) -> Result<WhyReply, ClientError> {
        let builder = self.get(&format!("/api/v1/workers/{}/why", target.name)).query(&selector(target));
        self.json(builder.timeout(Duration::from_secs(10))).await
    }

    /// How the period that ends now went.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn report(&self, period: Period) -> Result<Report, ClientError> {
        let query = ReportQuery { period: Some(period.to_string()) };
        self.json(self.get("/api/v1/reports").query(&query).timeout(REPORT_TIMEOUT)).await
    }

    /// Has queen, or a hive that stands alone, read its configuration anew.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn reload(&self, request: &ReloadRequest) -> Result<ReloadReply, ClientError> {
        let builder = self.post("/api/v1/reload", request);
        self.json(builder.timeout(longer_than(request.wait_ms))).await
    }

    /// Has queen give a hive no new work (`drain`), or work again.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn hive_drain(&self, hive: &str, drain: bool, request: &DrainRequest) -> Result<DrainReply, ClientError> {
        let word = if drain { "drain" } else { "undrain" };
        let builder = self.post(&format!("/api/v1/hives/{hive}/{word}"), request);
        self.json(builder.timeout(longer_than(request.wait_ms))).await
    }

    /// Has another process take queen's place; waits until it has, or until it is sure that it has not.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn upgrade(&self, request: &UpgradeRequest, timeout: Duration) -> Result<UpgradeReply, ClientError> {
        self.json(self.post("/api/v1/upgrade", request).timeout(timeout)).await
    }

    /// Has a hive become the binary that is there now; queen answers when it has, a hive that stands alone when it begins.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn hive_upgrade(
        &self,
        hive: &str,
        request: &HiveUpgradeRequest,
    ) -> Result<HiveUpgradeReply, ClientError> {
        let builder = self.post(&format!("/api/v1/hives/{hive}/upgrade"), request);
        self.json(builder.timeout(longer_than(request.wait_ms))).await
    }

    /// What came of the upgrade that a hive has begun which stands alone.
    ///
    /// # Errors
    /// See [`ClientError`]; the connection breaks where it comes about: ask again.
    pub async fn hive_upgraded(&self, hive: &str, generation: u64) -> Result<HiveUpgradeReply, ClientError> {
        let builder = self.get(&format!("/api/v1/hives/{hive}/upgrade")).query(&[("generation", generation)]);
        self.json(builder.timeout(Duration::from_secs(70))).await
    }

    /// Asks the daemon to end; it answers before it does.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn shutdown(&self, request: &ShutdownRequest) -> Result<(), ClientError> {
        let builder = self.post("/api/v1/shutdown", request).timeout(Duration::from_secs(10));
        self.send(builder).await.map(drop)
    }

    /// Tells queen how this hive is.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn heartbeat(&self, hive: &str, heartbeat: &Heartbeat) -> Result<HeartbeatReply, ClientError> {
        let builder = self.post(&format!("/api/v1/hives/{hive}/heartbeat"), heartbeat);
        self.json(builder.timeout(Duration::from_secs(10))).await
    }

    /// Waits until queen has something newer than `current` (fleet, generation) for this hive, at most `wait_ms`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn assignment(
        &self,
        hive: &str,
        current: Option<(&str, u64)>,
        wait_ms: u64,
    ) -> Result<Option<Assignment>, ClientError> {
        let (fleet, generation) = current.unwrap_or(("", 0));
        let builder = self
            .get(&format!("/api/v1/hives/{hive}/assignment"))
            .query(&[("fleet", fleet)])
            .query(&[("generation", generation), ("wait_ms", wait_ms)]);
        let response = self.send(builder.timeout(longer_than(wait_ms))).await?;
        if response.status() == http::StatusCode::NO_CONTENT {
            return Ok(None);
        }
        decode(response).await.map(Some)
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.authorize(self.http.get(format!("{}{path}", self.base_url)))
    }

    fn post<B: Serialize>(&self, path: &str, body: &B) -> RequestBuilder {
        let builder = self.http.post(format!("{}{path}", self.base_url)).json(body);
        self.authorize(match &self.idempotency_key {
            Some(key) => builder.header(crate::IDEMPOTENCY_KEY_HEADER, key),
            None => builder,
        })
    }

    fn authorize(&self, builder: RequestBuilder) -> RequestBuilder {
        match &self.token {
            Some(token) => builder.bearer_auth(token),
            None => builder,
        }
    }

    pub(crate) async fn json<T: DeserializeOwned>(&self, builder: RequestBuilder) -> Result<T, ClientError> {
        decode(self.send(builder).await?).await
    }

    pub(crate) async fn send(&self, builder: RequestBuilder) -> Result<Response, ClientError> {
        let response = builder.send().await.map_err(|source| {
            let url = self.base_url.clone();
            if source.is_timeout() && !source.is_connect() {
                ClientError::TimedOut { url, source }
            } else {
                ClientError::Unreachable { url, source }
            }
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let url = response.url().to_string();
        match response.json::<ErrorBody>().await {
            Ok(body) => Err(ClientError::Api { status: status.as_u16(), detail: Box::new(body.error) }),
            Err(_) => Err(ClientError::NotRbee { url, status: status.as_u16() }),
        }
    }
}

async fn decode<T: DeserializeOwned>(response: Response) -> Result<T, ClientError> {
    let url = response.url().to_string();
    response.json().await.map_err(|source| ClientError::BrokenAnswer { url, source })
}

/// The server waits `wait_ms` by itself; the client gives it some more to say so.
fn longer_than(wait_ms: u64) -> Duration {
    Duration::from_millis(wait_ms.saturating_add(10_000))
}

fn selector(target: &WorkerRef) -> Vec<(&'static str, String)> {
    let hive = target.hive.as_ref().map(|hive| ("hive", hive.clone()));
    let replica = target.replica.map(|replica| ("replica", replica.to_string()));
    hive.into_iter().chain(replica).collect()
}

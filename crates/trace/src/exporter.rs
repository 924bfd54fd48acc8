//! The exporter: sends spans to a collector, some at a time, and drops what it cannot deliver.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanExporter as _;
use reqwest::Url;
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, timeout_at};

use crate::record::Record;
use crate::{Error, Room, names, spans};

/// Spans are sent at least so often while there are any.
const INTERVAL: Duration = Duration::from_secs(1);
/// Records that are sent in one request, at most two spans each.
const BATCH: usize = 512;
/// A collector that does not answer for so long is not there. Tries again are part of it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where spans are sent to below the address of a collector.
const PATH: &str = "v1/traces";

/// Where spans are sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(Url);

impl Endpoint {
    /// The address for spans itself, with nothing to add to it.
    ///
    /// # Errors
    /// When it is no http or https URL.
    pub fn exact(text: &str) -> Result<Self, String> {
        let example = "write it like http://127.0.0.1:4318";
        let url = Url::parse(text).map_err(|error| format!("`{text}` is not a URL: {error}; {example}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("`{text}` must begin with http:// or https://; {example}"));
        }
        // What stands in an address is logged with it.
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            return Err(
                "a name, a password or a query has no place in the address of a collector; \
                 give its key in OTEL_EXPORTER_OTLP_HEADERS"
                    .into(),
            );
        }
        Ok(Self(url))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Endpoint {
    type Err = String;

    /// The address of a collector; that for spans is below it.
    fn from_str(text: &str) -> Result<Self, String> {
        let Self(mut url) = Self::exact(text)?;
        let path = url.path().trim_end_matches('/');
        if !path.ends_with(PATH) {
            url.set_path(&format!("{path}/{PATH}"));
        }
        Ok(Self(url))
    }
}

/// Sends spans.
pub(crate) struct Exporter {
    collector: SpanExporter,
    /// Where to.
    endpoint: Endpoint,
    /// Whether the last batch could not be delivered.
    is_down: bool,
    /// Spans that were lost since the collector was last reached.
    lost: u64,
    /// Records that had found no room when that was last looked at.
    dropped: u64,
    /// Whether there were new ones then.
    is_short: bool,
}

impl Exporter {
    pub(crate) fn new(endpoint: &Endpoint) -> Result<Self, Error> {
        let wrong = |error: &dyn std::fmt::Display| Error(format!("traces cannot be sent: {error}"));
        // Fails only when a provider is installed already, and then that one is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = reqwest::Client::builder()
            .user_agent(concat!("adjutant/", env!("CARGO_PKG_VERSION")))
            .timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| wrong(&error))?;
        // Headers, such as a key of the collector, come from OTEL_EXPORTER_OTLP_HEADERS.
        let mut exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_http_client(client)
            .with_endpoint(endpoint.0.as_str())
            .with_timeout(PATIENCE)
            .build()
            .map_err(|error| wrong(&error))?;
        exporter.set_resource(&resource());
        Ok(Self {
            collector: exporter,
            endpoint: endpoint.clone(),
            is_down: false,
            lost: 0,
            dropped: 0,
            is_short: false,
        })
    }

    /// Sends what is noted until nobody notes anything any more.
    pub(crate) async fn run(mut self, mut notes: Receiver<Vec<Record>>, room: Arc<Room>) {
        tracing::info!(endpoint = %self.endpoint, "traces are sent");
        while let Some(mut records) = notes.recv().await {
            let deadline = Instant::now() + INTERVAL;
            while records.len() < BATCH {
                match timeout_at(deadline, notes.recv()).await {
                    Ok(Some(more)) => records.extend(more),
                    Ok(None) | Err(_) => break,
                }
            }
            for batch in records.chunks(BATCH) {
                self.send(batch).await;
            }
            // Only now is there room again: what is being sent takes memory as well.
            room.noted.fetch_sub(records.len(), Ordering::Relaxed);
            self.tell_dropped(room.dropped.load(Ordering::Relaxed));
        }
    }

    async fn send(&mut self, records: &[Record]) {
        let mut batch = Vec::with_capacity(records.len() * 2);
        for record in records {
            spans::add(record, &mut batch);
        }
        let count = batch.len() as u64;
        match self.collector.export(batch).await {
            Ok(()) => {
                if std::mem::take(&mut self.is_down) {
                    let lost = std::mem::take(&mut self.lost);
                    tracing::info!(lost, "traces are delivered again; spans were lost meanwhile");
                }
            }
            Err(error) => {
                self.lost += count;
                if !std::mem::replace(&mut self.is_down, true) {
                    tracing::warn!(
                        %error,
                        endpoint = %self.endpoint,
                        "traces cannot be delivered and are dropped; it is told when they are delivered again"
                    );
                }
            }
        }
    }

    /// Tells that there is no room, when it begins; while the collector is away that is to be expected.
    fn tell_dropped(&mut self, dropped: u64) {
        let is_short = dropped > std::mem::replace(&mut self.dropped, dropped);
        if is_short && !self.is_short && !self.is_down {
            tracing::warn!(dropped, "more happens than can be traced: some of it is left out");
        }
        self.is_short = is_short;
    }
}

/// What the environment says of the service, with our name where it says none.
fn resource() -> Resource {
    let found = Resource::builder().build();
    let name = found.get(&"service.name".into()).map(|name| name.to_string());
    let version = opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let builder = Resource::builder().with_attribute(version);
    match name {
        Some(name) if !name.starts_with("unknown_service") => builder,
        _ => builder.with_service_name(names::SERVICE),
    }
    .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_go_below_the_address_of_the_collector() {
        for (given, expected) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            (
                "https://otlp.example.org/intake/",
                "https://otlp.example.org/intake/v1/traces",
            ),
            ("http://c:4318/v1/traces", "http://c:4318/v1/traces"),
        ] {
            let endpoint: Endpoint = given.parse().unwrap();
            assert_eq!(endpoint.0.as_str(), expected);
        }
        assert_eq!(
            Endpoint::exact("http://c/spans").unwrap().0.as_str(),
            "http://c/spans"
        );
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for wrong in ["", "collector:4318", "grpc://c:4317", "ftp://c"] {
            let error = wrong.parse::<Endpoint>().unwrap_err();
            assert!(error.contains("write it like http://127.0.0.1:4318"), "{error}");
        }
        for secret in ["http://me:secret@c:4318", "http://c:4318/?key=secret"] {
            let error = secret.parse::<Endpoint>().unwrap_err();
            assert!(
                error.contains("OTEL_EXPORTER_OTLP_HEADERS") && !error.contains("secret"),
                "{error}"
            );
        }
    }
}

//! A client of one place, which goes nowhere else.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt as _;
use http::{HeaderMap, StatusCode};
use reqwest::{RequestBuilder, Url};

use super::outside;

/// The most bytes of an answer. What agents make may be long; an answer without an end is not one.
const MAX_ANSWER_BYTES: usize = 4 << 20;
/// A place that does not accept a connection by then is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A client of one place.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    patience: Duration,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Told {
    /// The status.
    pub(crate) status: StatusCode,
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// The whole body, where it was read.
    pub(crate) body: Vec<u8>,
}

impl Client {
    /// A client of the place at `url`, whose host is at these addresses, which may be inside if `private`. It waits for
    /// `patience` for a whole answer.
    ///
    /// # Errors
    /// When one of them is inside and may not be, or the system's certificates cannot be read.
    pub(crate) fn new(
        url: &Url,
        addresses: &[IpAddr],
        private: bool,
        patience: Duration,
    ) -> Result<Self, String> {
        if !private {
            // They were judged when they were found; by a server that may have been started in another way.
            outside(addresses)?;
        }
        // Fails only when a provider is installed already, and then that one is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        // The port is that of each request; the one of a pinned address is not used where it is zero.
        let pinned: Vec<SocketAddr> = addresses.iter().map(|address| (*address, 0).into()).collect();
        let http = reqwest::Client::builder()
            .user_agent(concat!("adjutant/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT.min(patience))
            .redirect(reqwest::redirect::Policy::none())
            // A proxy would look the name up again, and go where that leads.
            .no_proxy()
            .resolve_to_addrs(url.host_str().unwrap_or_default(), &pinned)
            .tcp_nodelay(true)
            .build()
            .map_err(|error| format!("cannot set up HTTP: {}", in_full(&error)))?;
        Ok(Self { http, patience })
    }

    /// A request to be filled in.
    pub(crate) fn request(&self, method: reqwest::Method, url: Url) -> RequestBuilder {
        self.http.request(method, url)
    }

    /// Sends a request, and reads the head of the answer: where that says all, a body without an end, or none, says
    /// nothing else.
    ///
    /// # Errors
    /// In words for people: no connection, no answer in time, or a redirect.
    pub(crate) async fn send_for_head(&self, request: RequestBuilder) -> Result<Told, String> {
        self.within_patience(async {
            let (_unread, told) = begin(request).await?;
            Ok(told)
        })
        .await
    }

    /// Sends a request, and reads the whole answer.
    ///
    /// # Errors
    /// In words for people: no connection, no answer in time, a redirect, or more than there may be of it.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Told, String> {
        self.within_patience(async {
            let (response, mut told) = begin(request).await?;
            let mut chunks = response.bytes_stream();
            while let Some(chunk) = chunks.next().await {
                let chunk = chunk.map_err(|error| in_full(&error))?;
                if told.body.len() + chunk.len() > MAX_ANSWER_BYTES {
                    return Err(format!("it sent more than {} MiB", MAX_ANSWER_BYTES >> 20));
                }
                told.body.extend_from_slice(&chunk);
            }
            Ok(told)
        })
        .await
    }

    async fn within_patience(
        &self,
        answer: impl Future<Output = Result<Told, String>>,
    ) -> Result<Told, String> {
        let patience = self.patience;
        tokio::time::timeout(patience, answer)
            .await
            .unwrap_or_else(|_| Err(format!("it did not answer within {} s", patience.as_secs())))
    }
}

/// Sends a request; what comes back before the body.
async fn begin(request: RequestBuilder) -> Result<(reqwest::Response, Told), String> {
    let response = request.send().await.map_err(|error| in_full(&error))?;
    let (status, headers) = (response.status(), response.headers().clone());
    if status.is_redirection() {
        return Err(format!("it answered {status}, and redirects are not followed"));
    }
    let body = Vec::new();
    Ok((
        response,
        Told {
            status,
            headers,
            body,
        },
    ))
}

/// An error with what caused it: the first line alone says that a request failed. The URL is known to the reader.
fn in_full(error: &reqwest::Error) -> String {
    let mut text = if error.is_connect() {
        "no connection".to_owned()
    } else {
        "the request failed".to_owned()
    };
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = inner.source();
    }
    text
}

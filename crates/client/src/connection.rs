//! The client itself: an address, a token, and how patient to be.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};

use crate::Error;

/// How long one request may take when nothing else was said; a long poll gets its wait on top.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a harmless request is repeated when nothing else was said: with the backoff about a second in all, so
/// that a server that restarts is hardly noticed and one that is not there is reported soon.
pub const DEFAULT_RETRIES: u32 = 3;
/// Answers are read up to this size: a page of a hundred tasks with bodies of a megabyte fits.
pub const MAX_ANSWER_BYTES: usize = 256 * 1024 * 1024;
/// A server that does not even accept a connection for so long is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client of one server. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) http: reqwest::Client,
    /// With a path that ends in `/`, so that paths can be joined.
    pub(crate) base: Url,
    pub(crate) token: Option<String>,
    pub(crate) timeout: Duration,
    pub(crate) retries: u32,
}

impl Client {
    /// A client of the server at `base_url`, such as `http://127.0.0.1:7717`.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the address or the token cannot be used.
    pub fn new(base_url: &str, token: Option<String>) -> Result<Self, Error> {
        let builder = Self::builder(base_url);
        match token {
            Some(token) => builder.token(token).build(),
            None => builder.build(),
        }
    }

    /// A client with more settings.
    pub fn builder(base_url: &str) -> Builder {
        Builder {
            base_url: base_url.to_owned(),
            token: None,
            timeout: DEFAULT_TIMEOUT,
            retries: DEFAULT_RETRIES,
            authorities: None,
        }
    }

    /// The address of the server, without a slash at its end.
    pub fn base_url(&self) -> &str {
        self.inner.base.as_str().trim_end_matches('/')
    }

    /// The token that it sends, for a worker that must keep it from the commands it runs.
    pub fn token(&self) -> Option<&str> {
        self.inner.token.as_deref()
    }
}

impl fmt::Debug for Client {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("base_url", &self.base_url())
            .finish_non_exhaustive()
    }
}

/// Settings of a [`Client`].
#[derive(Clone)]
pub struct Builder {
    base_url: String,
    token: Option<String>,
    timeout: Duration,
    retries: u32,
    authorities: Option<Vec<u8>>,
}

impl Builder {
    /// Sends this token with each request.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// How long one request may take; a long poll gets its wait on top.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How often a request that may be repeated is repeated; 0 is never.
    #[must_use]
    pub const fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Trusts servers whose certificate one of these authorities signed, and no others. `pem` is one certificate or
    /// several; a certificate that signed itself is its own authority.
    #[must_use]
    pub fn authorities(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.authorities = Some(pem.into());
        self
    }

    /// The client.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the address, the token or the authorities cannot be used.
    pub fn build(self) -> Result<Client, Error> {
        let base = parse_base(&self.base_url)?;
        let mut headers = HeaderMap::new();
        if let Some(token) = &self.token {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
                Error::Invalid("the token has characters that no token has: is a line break in it?".into())
            })?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        // Fails only when a provider is installed already, and then that one is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("adjutant/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .connect_timeout(CONNECT_TIMEOUT.min(self.timeout))
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true);
        if let Some(pem) = &self.authorities {
            http = http.tls_certs_only(certificates(pem)?);
        }
        if is_loopback(&base) {
            // A proxy of the environment cannot reach this machine's own loopback, and must not see the token.
            http = http.no_proxy();
        }
        let http = http
            .build()
            .map_err(|error| Error::Invalid(format!("cannot set up HTTP: {error}")))?;
        Ok(Client {
            inner: Arc::new(Inner {
                http,
                base,
                token: self.token,
                timeout: self.timeout,
                retries: self.retries,
            }),
        })
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<reqwest::Certificate>, Error> {
    match reqwest::Certificate::from_pem_bundle(pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(Error::Invalid(
            "there is no certificate of an authority to trust: it must be PEM with one or more".into(),
        )),
    }
}

fn parse_base(text: &str) -> Result<Url, Error> {
    let invalid = |why: &str| {
        Error::Invalid(format!(
            "`{text}` is not the address of a server: {why}; write it like http://127.0.0.1:7717"
        ))
    };
    let mut base = Url::parse(text).map_err(|error| invalid(&error.to_string()))?;
    if !matches!(base.scheme(), "http" | "https") {
        return Err(invalid("it must begin with http:// or https://"));
    }
    if !base.username().is_empty() || base.password().is_some() {
        return Err(invalid("a name or password has no place in it"));
    }
    base.set_query(None);
    base.set_fragment(None);
    if !base.path().ends_with('/') {
        let path = format!("{}/", base.path());
        base.set_path(&path);
    }
    Ok(base)
}

fn is_loopback(base: &Url) -> bool {
    base.host_str().is_some_and(|host| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost"
            || host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    })
}

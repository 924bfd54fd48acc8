//! One call: build it, send it, repeat it where that is harmless, and read the answer.

use std::time::Duration;

use adjutant_wire::ErrorBody;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::connection::{Client, MAX_ANSWER_BYTES};
use crate::{Backoff, Error};

/// The first repetition waits about this long.
const RETRY_BASE: Duration = Duration::from_millis(200);
/// No repetition waits longer by itself.
const RETRY_CAP: Duration = Duration::from_secs(5);
/// A server that asks for more patience than this gets its answer passed on instead: a person decides.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(10);
/// Error answers are read up to this size; more is not an error of this API.
const MAX_ERROR_BYTES: usize = 1024 * 1024;

/// A call in the making.
pub(crate) struct Call<'a> {
    client: &'a Client,
    method: Method,
    url: Url,
    body: Option<Vec<u8>>,
    idempotency_key: Option<&'a str>,
    timeout: Duration,
    /// A body that could not be written; told when the call is sent.
    invalid: Option<Error>,
}

/// What came back: all of it.
pub(crate) struct Answer {
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Client {
    /// A call of `method` on the path made of these segments, each of which is escaped.
    pub(crate) fn call(&self, method: Method, segments: &[&str]) -> Call<'_> {
        let mut url = self.inner.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        Call {
            client: self,
            method,
            url,
            body: None,
            idempotency_key: None,
            timeout: self.inner.timeout,
            invalid: None,
        }
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, segments: &[&str]) -> Result<T, Error> {
        self.call(Method::GET, segments).json().await
    }

    pub(crate) async fn put<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        body: &(impl Serialize + ?Sized),
    ) -> Result<T, Error> {
        self.call(Method::PUT, segments).body(body).json().await
    }

    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        body: &(impl Serialize + ?Sized),
    ) -> Result<T, Error> {
        self.call(Method::POST, segments).body(body).json().await
    }
}

impl<'a> Call<'a> {
    pub(crate) fn query(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.url.query_pairs_mut().append_pair(name, value.as_ref());
        self
    }

    pub(crate) fn maybe_query(self, name: &str, value: Option<impl AsRef<str>>) -> Self {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }

    /// Replaces the whole query by one that the server made.
    pub(crate) fn raw_query(mut self, query: &str) -> Self {
        self.url.set_query(Some(query));
        self
    }

    pub(crate) fn body(mut self, body: &(impl Serialize + ?Sized)) -> Self {
        match serde_json::to_vec(body) {
            Ok(bytes) => self.body = Some(bytes),
            Err(error) => {
                self.invalid = Some(Error::Invalid(format!(
                    "cannot write the request as JSON: {error}"
                )));
            }
        }
        self
    }

    pub(crate) const fn key(mut self, key: Option<&'a str>) -> Self {
        self.idempotency_key = key;
        self
    }

    pub(crate) const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sends it and reads the answer as JSON.
    pub(crate) async fn json<T: DeserializeOwned>(self) -> Result<T, Error> {
        self.answer().await?.json()
    }

    /// Sends it; what a success says does not matter.
    pub(crate) async fn done(self) -> Result<(), Error> {
        self.answer().await.map(drop)
    }

    /// Sends it, again where that is harmless, and reads all of the answer.
    pub(crate) async fn answer(mut self) -> Result<Answer, Error> {
        if let Some(error) = self.invalid.take() {
            return Err(error);
        }
        let repeatable = self.method == Method::GET
            || self.method == Method::PUT
            || self.method == Method::DELETE
            || self.idempotency_key.is_some();
        let mut backoff = Backoff::new(RETRY_BASE, RETRY_CAP);
        loop {
            let error = match self.once().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if !repeatable || backoff.steps() >= self.client.inner.retries {
                return Err(error);
            }
            let Some(wait) = patience(&error, &mut backoff) else {
                return Err(error);
            };
            tracing::debug!(%error, ?wait, "repeating {} {}", self.method, self.url.path());
            tokio::time::sleep(wait).await;
        }
    }

    async fn once(&self) -> Result<Answer, Error> {
        let mut request = self
            .client
            .inner
            .http
            .request(self.method.clone(), self.url.clone())
            .timeout(self.timeout);
        if let Some(body) = &self.body {
            request = request
                .header(CONTENT_TYPE, "application/json")
                .body(body.clone());
        }
        if let Some(key) = self.idempotency_key {
            request = request.header("Idempotency-Key", key);
        }
        let response = request
            .send()
            .await
            .map_err(|error| Error::transport(&self.url, error))?;
        if response.status().is_success() {
            let headers = response.headers().clone();
            let body = read(response, &self.url, MAX_ANSWER_BYTES).await?;
            return Ok(Answer {
                url: self.url.clone(),
                headers,
                body,
            });
        }
        Err(refusal(response, &self.url).await)
    }
}

impl Answer {
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|error| {
            Error::unexpected(
                &self.url,
                format!("{error} (is this an adjutant server of the same version?)"),
            )
        })
    }
}

/// How long to wait before a repetition; none when it would not help.
fn patience(error: &Error, backoff: &mut Backoff) -> Option<Duration> {
    match (error, error.retry_after()) {
        (Error::Transport { .. }, _) => Some(backoff.next_wait()),
        (_, Some(asked)) if matches!(error.code(), Some(429 | 503)) => {
            let wait = backoff.next_wait();
            (asked <= MAX_RETRY_AFTER).then(|| wait.max(asked))
        }
        (_, None) if matches!(error.code(), Some(502..=504)) => Some(backoff.next_wait()),
        _ => None,
    }
}

async fn read(mut response: Response, url: &Url, limit: usize) -> Result<Vec<u8>, Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| Error::transport(url, error))?
    {
        if body.len() + chunk.len() > limit {
            return Err(Error::unexpected(
                url,
                format!("it is longer than {limit} bytes: ask for fewer items"),
            ));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// What an answer that is not a success says, whoever wrote it.
pub(crate) async fn refusal(response: Response, url: &Url) -> Error {
    let status = response.status();
    if status.is_redirection() {
        let target = header(response.headers(), "location").unwrap_or("another address");
        return Error::unexpected(url, format!("the server has moved to {target}: use that address"));
    }
    let retry_after = header(response.headers(), RETRY_AFTER.as_str()).and_then(parse_retry_after);
    let body = match read(response, url, MAX_ERROR_BYTES).await {
        Ok(body) => body,
        // The status stands, even when the rest of the answer was lost.
        Err(error) => error.to_string().into_bytes(),
    };
    Error::Refused {
        body: error_body(status, &body),
        retry_after,
    }
}

pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Seconds; the form with a date is left to the backoff.
fn parse_retry_after(text: &str) -> Option<Duration> {
    text.trim().parse().ok().map(Duration::from_secs)
}

/// Reads an error of this API, or whatever another server or a proxy says instead.
pub(crate) fn error_body(status: StatusCode, body: &[u8]) -> ErrorBody {
    let code = status.as_u16();
    let retryable = matches!(code, 429 | 502..=504);
    if let Ok(mut known) = serde_json::from_slice::<ErrorBody>(body)
        && !known.message.is_empty()
    {
        known.code = code;
        return known;
    }
    let foreign: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let said = |name: &str| {
        foreign
            .get(name)
            .and_then(serde_json::Value::as_str)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    let message = said("message")
        .or_else(|| said("error"))
        .or_else(|| said("detail"))
        .unwrap_or_else(|| {
            format!(
                "the server answered {code} {}",
                status.canonical_reason().unwrap_or("")
            )
            .trim_end()
            .to_owned()
        });
    ErrorBody {
        code,
        message,
        details: said("details").unwrap_or_default(),
        error: String::new(),
        retryable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_any_server_are_read() {
        let own = br#"{"code":409,"message":"no","details":"d","error":"wrong_state","retryable":false}"#;
        assert_eq!(error_body(StatusCode::CONFLICT, own).error, "wrong_state");
        for (body, message) in [
            (
                &br#"{"code":404,"message":"task not found"}"#[..],
                "task not found",
            ),
            (br#"{"error":"nothing here"}"#, "nothing here"),
            (b"<html>Bad Gateway</html>", "the server answered 404 Not Found"),
            (b"", "the server answered 404 Not Found"),
        ] {
            let read = error_body(StatusCode::NOT_FOUND, body);
            assert_eq!((read.code, read.message.as_str()), (404, message));
            assert!(!read.retryable);
        }
        assert!(error_body(StatusCode::SERVICE_UNAVAILABLE, b"").retryable);
    }
}

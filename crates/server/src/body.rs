//! Bodies of requests: their type, their size, and the memory that they may take.

use std::time::Duration;

use adjutant_core::rejection::{Rejection, Slug};
use axum::body::{Body, Bytes};
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use http_body_util::BodyExt as _;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// Bodies up to this size are not counted against the memory for bodies: they are read in one piece or two.
const SMALL_BYTES: usize = 64 << 10;
/// What is left of a body that is too large is read and thrown away up to this, so that a client that still sends
/// sees the answer instead of a reset connection.
const DRAIN_BYTES: usize = 128 << 20;
/// The unit in which memory for bodies is counted.
const UNIT_BYTES: usize = 1 << 10;

/// How bodies are bounded.
pub(crate) struct BodyBounds {
    memory: Semaphore,
    stall: Duration,
}

/// A body, with its share of the memory for bodies.
pub(crate) struct ReadBody<'a> {
    /// What was sent.
    pub(crate) bytes: Bytes,
    _share: Option<SemaphorePermit<'a>>,
}

impl BodyBounds {
    /// `memory_bytes` for all bodies together; a peer that sends nothing for `stall` is given up.
    pub(crate) fn new(memory_bytes: usize, stall: Duration) -> Self {
        Self {
            memory: Semaphore::new((memory_bytes / UNIT_BYTES).min(Semaphore::MAX_PERMITS)),
            stall,
        }
    }

    /// Reads a body of at most `limit` bytes, which must be JSON unless it is empty.
    pub(crate) async fn read(
        &self,
        headers: &HeaderMap,
        mut body: Body,
        limit: usize,
    ) -> Result<ReadBody<'_>, Rejection> {
        let announced = announced_length(headers);
        if announced.is_some_and(|length| length > limit) {
            if !headers.contains_key(EXPECT) {
                self.drain(&mut body).await;
            }
            return Err(too_large(limit));
        }
        let share = self.share(announced.unwrap_or(limit))?;
        let bytes = self.collect(&mut body, announced.unwrap_or(0), limit).await?;
        if !bytes.is_empty() && !is_json(headers) {
            return Err(Rejection::new(
                Slug::UnsupportedMediaType,
                "the body must be application/json: set the Content-Type header",
            ));
        }
        Ok(ReadBody { bytes, _share: share })
    }

    fn share(&self, length: usize) -> Result<Option<SemaphorePermit<'_>>, Rejection> {
        if length <= SMALL_BYTES {
            return Ok(None);
        }
        let units = u32::try_from(length.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        self.memory.try_acquire_many(units).map(Some).map_err(|_| {
            Rejection::new(
                Slug::Overloaded,
                "the server is reading as many large bodies as it can hold",
            )
        })
    }

    async fn collect(&self, body: &mut Body, announced: usize, limit: usize) -> Result<Bytes, Rejection> {
        let Some(first) = self.chunk(body).await? else {
            return Ok(Bytes::new());
        };
        if first.len() > limit {
            self.drain(body).await;
            return Err(too_large(limit));
        }
        if first.len() == announced {
            return Ok(first);
        }
        let mut bytes = Vec::with_capacity(announced.max(first.len()));
        bytes.extend_from_slice(&first);
        while let Some(chunk) = self.chunk(body).await? {
            if bytes.len() + chunk.len() > limit {
                drop(bytes);
                self.drain(body).await;
                return Err(too_large(limit));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.into())
    }

    /// The next piece of the body; none at its end.
    async fn chunk(&self, body: &mut Body) -> Result<Option<Bytes>, Rejection> {
        loop {
            let frame = timeout(self.stall, body.frame())
                .await
                .map_err(|_| Rejection::new(Slug::BadRequest, "the body did not arrive in time"))?;
            match frame {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    // Trailers carry nothing for us.
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
                Some(Err(error)) => {
                    return Err(Rejection::new(Slug::BadRequest, "the body could not be read")
                        .with_details(error.to_string()));
                }
            }
        }
    }

    /// Throws away what is left of a refused body, within bounds.
    async fn drain(&self, body: &mut Body) {
        let mut drained = 0;
        while drained < DRAIN_BYTES {
            match self.chunk(body).await {
                Ok(Some(chunk)) => drained += chunk.len(),
                // The request is refused already: why the rest did not come makes no difference.
                Ok(None) | Err(_) => return,
            }
        }
    }
}

fn announced_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn too_large(limit: usize) -> Rejection {
    Rejection::new(
        Slug::BodyTooLarge,
        format!("the body is larger than the {limit} bytes that this path takes"),
    )
}

/// Whether the content type is JSON, parameters aside.
fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    async fn read(
        headers: &[(http::HeaderName, &'static str)],
        body: &'static str,
        limit: usize,
    ) -> Result<Bytes, Slug> {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_static(value)))
            .collect();
        BodyBounds::new(1 << 20, Duration::from_secs(1))
            .read(&headers, Body::from(body), limit)
            .await
            .map(|read| read.bytes)
            .map_err(|rejection| rejection.slug)
    }

    #[tokio::test]
    async fn only_json_is_taken_and_an_empty_body_needs_no_type() {
        let json = [(CONTENT_TYPE, "Application/JSON; charset=utf-8")];
        assert_eq!(read(&json, "{}", 9).await.unwrap(), "{}");
        assert_eq!(read(&[], "", 9).await.unwrap(), "");
        for other in [
            vec![],
            vec![(CONTENT_TYPE, "text/plain")],
            vec![(CONTENT_TYPE, "application/jsonp")],
        ] {
            assert_eq!(read(&other, "{}", 9).await, Err(Slug::UnsupportedMediaType));
        }
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_whether_it_says_its_length_or_not() {
        let json = (CONTENT_TYPE, "application/json");
        assert_eq!(
            read(std::slice::from_ref(&json), "[1,2,3]", 6).await,
            Err(Slug::BodyTooLarge)
        );
        assert_eq!(
            read(&[json.clone(), (CONTENT_LENGTH, "7")], "[1,2,3]", 6).await,
            Err(Slug::BodyTooLarge)
        );
        assert!(read(&[json, (CONTENT_LENGTH, "7")], "[1,2,3]", 7).await.is_ok());
    }

    #[tokio::test]
    async fn large_bodies_share_a_bounded_memory() {
        let bounds = BodyBounds::new(1 << 20, Duration::from_secs(1));
        let held = bounds.share(1 << 20).unwrap();
        assert_eq!(bounds.share(SMALL_BYTES + 1).unwrap_err().slug, Slug::Overloaded);
        assert!(bounds.share(SMALL_BYTES).unwrap().is_none());
        drop(held);
        assert!(bounds.share(SMALL_BYTES + 1).unwrap().is_some());
    }
}

//! Bodies of requests: their type, their size, their pace, and the memory that they may take.

use std::sync::Arc;
use std::time::Duration;

use adjutant_core::rejection::{Rejection, Slug};
use axum::body::{Body, Bytes};
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// Bodies up to this size are not counted against the memory for bodies: there is at most one for each connection.
const SMALL_BYTES: usize = 8 << 10;
/// What is left of a body that is too large is read and thrown away up to this, so that a client that still sends
/// sees the answer instead of a reset connection.
const DRAIN_BYTES: usize = 128 << 20;
/// The unit in which memory for bodies is counted.
const UNIT_BYTES: usize = 1 << 10;
/// Beyond the time that a stall may take, a body must arrive at this pace on average: who sends a byte now and then
/// must not hold what it has sent before for hours.
const LEAST_BYTES_PER_SEC: usize = 256 << 10;

/// How bodies are bounded.
pub(crate) struct BodyBounds {
    memory: Arc<Semaphore>,
    stall: Duration,
}

/// A body, with its share of the memory for bodies.
pub(crate) struct ReadBody {
    /// What was sent.
    pub(crate) bytes: Bytes,
    /// To be held for as long as the body, or what was made of it, is in memory.
    pub(crate) share: Share,
}

/// A share of the memory for bodies; given back when it is dropped.
#[derive(Default)]
pub(crate) struct Share {
    permit: Option<OwnedSemaphorePermit>,
}

impl BodyBounds {
    /// `memory_bytes` for all bodies together; a peer that sends nothing for `stall` is given up.
    pub(crate) fn new(memory_bytes: usize, stall: Duration) -> Self {
        Self {
            memory: Arc::new(Semaphore::new(
                (memory_bytes / UNIT_BYTES).min(Semaphore::MAX_PERMITS),
            )),
            stall,
        }
    }

    /// Reads a body of at most `limit` bytes, which must be JSON unless it is empty.
    pub(crate) async fn read(
        &self,
        headers: &HeaderMap,
        mut body: Body,
        limit: usize,
    ) -> Result<ReadBody, Rejection> {
        let mut pace = Pace::new(self.stall);
        let announced = announced_length(headers);
        if announced.is_some_and(|length| length > limit) {
            refuse(headers, &mut body, &mut pace).await;
            return Err(too_large(limit));
        }
        let announced = announced.unwrap_or(0);
        // Who would not fit in the end is refused before it has sent much; room is taken as the bytes come, so that
        // a slow one does not keep it from others meanwhile.
        if announced > SMALL_BYTES && units(announced) > self.memory.available_permits() {
            refuse(headers, &mut body, &mut pace).await;
            return Err(overloaded());
        }
        let read = match self.collect(&mut body, &mut pace, announced, limit).await {
            // Unless it is the rest that did not come.
            Err(rejection) if matches!(rejection.slug, Slug::BodyTooLarge | Slug::Overloaded) => {
                drain(&mut body, &mut pace).await;
                return Err(rejection);
            }
            read => read?,
        };
        if !read.bytes.is_empty() && !is_json(headers) {
            return Err(Rejection::new(
                Slug::UnsupportedMediaType,
                "the body must be application/json: set the Content-Type header",
            ));
        }
        Ok(read)
    }

    /// Throws away the body of a request that is refused for another reason.
    pub(crate) async fn discard(&self, headers: &HeaderMap, mut body: Body) {
        refuse(headers, &mut body, &mut Pace::new(self.stall)).await;
    }

    async fn collect(
        &self,
        body: &mut Body,
        pace: &mut Pace,
        announced: usize,
        limit: usize,
    ) -> Result<ReadBody, Rejection> {
        let mut share = Share::default();
        let Some(first) = chunk(body, pace).await? else {
            return Ok(ReadBody {
                bytes: Bytes::new(),
                share,
            });
        };
        if first.len() > limit {
            return Err(too_large(limit));
        }
        self.grow(&mut share, first.len())?;
        if first.len() == announced {
            return Ok(ReadBody { bytes: first, share });
        }
        // Room that is not written to yet takes no memory.
        let mut bytes = Vec::with_capacity(announced.max(first.len()));
        bytes.extend_from_slice(&first);
        while let Some(chunk) = chunk(body, pace).await? {
            if bytes.len() + chunk.len() > limit {
                return Err(too_large(limit));
            }
            self.grow(&mut share, bytes.len() + chunk.len())?;
            bytes.extend_from_slice(&chunk);
        }
        Ok(ReadBody {
            bytes: bytes.into(),
            share,
        })
    }

    /// Makes a share large enough for so many bytes.
    fn grow(&self, share: &mut Share, length: usize) -> Result<(), Rejection> {
        let held = share.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = units(length).saturating_sub(held);
        if length <= SMALL_BYTES || missing == 0 {
            return Ok(());
        }
        let missing = u32::try_from(missing).unwrap_or(u32::MAX);
        let more = Arc::clone(&self.memory)
            .try_acquire_many_owned(missing)
            .map_err(|_| overloaded())?;
        match &mut share.permit {
            Some(permit) => permit.merge(more),
            None => share.permit = Some(more),
        }
        Ok(())
    }
}

const fn units(length: usize) -> usize {
    length.div_ceil(UNIT_BYTES)
}

fn overloaded() -> Rejection {
    Rejection::new(
        Slug::Overloaded,
        "the server is reading as many large bodies as it can hold",
    )
}

/// How much longer a body is waited for.
struct Pace {
    begun: Instant,
    stall: Duration,
    received: usize,
}

impl Pace {
    fn new(stall: Duration) -> Self {
        Self {
            begun: Instant::now(),
            stall,
            received: 0,
        }
    }

    fn deadline(&self) -> Instant {
        let earned = u64::try_from(self.received / (LEAST_BYTES_PER_SEC / 1_000)).unwrap_or(u64::MAX);
        let in_all = self.begun + self.stall + Duration::from_millis(earned);
        in_all.min(Instant::now() + self.stall)
    }
}

/// The next piece of a body; none at its end.
async fn chunk(body: &mut Body, pace: &mut Pace) -> Result<Option<Bytes>, Rejection> {
    loop {
        let frame = timeout_at(pace.deadline(), body.frame())
            .await
            .map_err(|_| Rejection::new(Slug::BadRequest, "the body did not arrive in time"))?;
        match frame {
            None => return Ok(None),
            Some(Ok(frame)) => {
                // Trailers carry nothing for us.
                if let Ok(data) = frame.into_data() {
                    pace.received += data.len();
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

/// Throws away a body that is refused before any of it was read. Who asks before sending has not sent it.
async fn refuse(headers: &HeaderMap, body: &mut Body, pace: &mut Pace) {
    if !headers.contains_key(EXPECT) {
        drain(body, pace).await;
    }
}

/// Throws away what is left of a refused body, within bounds.
async fn drain(body: &mut Body, pace: &mut Pace) {
    let mut drained = 0;
    while drained < DRAIN_BYTES {
        match chunk(body, pace).await {
            Ok(Some(chunk)) => drained += chunk.len(),
            // The request is refused already: why the rest did not come makes no difference.
            Ok(None) | Err(_) => return,
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

/// Types of bodies that are JSON. No web page can send one of them to another site unasked.
const JSON_TYPES: [&str; 2] = ["application/json", "application/a2a+json"];

/// Whether the content type is JSON, parameters aside.
fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|essence| {
            let essence = essence.trim();
            JSON_TYPES.iter().any(|json| essence.eq_ignore_ascii_case(json))
        })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

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
        let a2a = [(CONTENT_TYPE, "application/a2a+json")];
        assert_eq!(read(&a2a, "{}", 9).await.unwrap(), "{}");
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

    /// A body whose pieces come at these times.
    fn slow(pieces: usize, length: usize, pause: Duration) -> Body {
        Body::from_stream(futures_util::stream::unfold(pieces, move |left| async move {
            if left == 0 {
                return None;
            }
            tokio::time::sleep(pause).await;
            Some((Ok::<_, std::io::Error>(vec![b' '; length]), left - 1))
        }))
    }

    fn json_of(length: usize) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        headers
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_is_given_up_and_one_that_is_merely_slow_is_not() {
        let bounds = BodyBounds::new(64 << 20, Duration::from_secs(30));
        let begun = Instant::now();
        let trickle = slow(1_000, 100, Duration::from_secs(5));
        let refused = bounds.read(&json_of(100_000), trickle, 1 << 20).await;
        assert_eq!(refused.err().unwrap().slug, Slug::BadRequest);
        assert_eq!(begun.elapsed().as_secs(), 30);
        // A whole batch at 4 Mbit/s takes two minutes.
        let length = 64 << 20;
        let steady = slow(128, length / 128, Duration::from_secs(1));
        let read = bounds.read(&json_of(length), steady, length).await.unwrap();
        assert_eq!(read.bytes.len(), length);
    }

    #[tokio::test]
    async fn large_bodies_share_a_bounded_memory_until_they_are_done_with() {
        let bounds = BodyBounds::new(1 << 20, Duration::from_secs(1));
        let read = |length: usize| {
            let body = Body::from(vec![b' '; length]);
            let (headers, bounds) = (json_of(length), &bounds);
            async move {
                bounds
                    .read(&headers, body, 4 << 20)
                    .await
                    .map_err(|rejection| rejection.slug)
            }
        };
        assert_eq!(read(2 << 20).await.err(), Some(Slug::Overloaded));
        let held = read(1 << 20).await.unwrap();
        assert_eq!(read(SMALL_BYTES + 1).await.err(), Some(Slug::Overloaded));
        assert!(read(SMALL_BYTES).await.is_ok());
        drop(held);
        assert!(read(SMALL_BYTES + 1).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_slow_holds_no_more_than_it_has_sent() {
        let bounds = BodyBounds::new(1 << 20, Duration::from_secs(30));
        let length = 1 << 20;
        let (slow_headers, quick_headers) = (json_of(length), json_of(length / 2));
        let slow = bounds.read(&slow_headers, slow(4, length / 4, Duration::from_secs(5)), length);
        let quick = async {
            // While the slow one has sent half of what it announced.
            tokio::time::sleep(Duration::from_secs(11)).await;
            let body = Body::from(vec![b' '; length / 2]);
            bounds.read(&quick_headers, body, length).await.map(drop)
        };
        let (slow, quick) = tokio::join!(slow, quick);
        assert!(slow.is_ok() && quick.is_ok());
    }

    /// A body in pieces of 16 KiB, and how many of them were taken.
    fn pieces(number: usize) -> (Body, Arc<AtomicUsize>) {
        let taken = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&taken);
        let stream = futures_util::stream::iter((0..number).map(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok::<_, std::io::Error>(Bytes::from(vec![b' '; 16 << 10]))
        }));
        (Body::from_stream(stream), taken)
    }

    #[tokio::test]
    async fn what_is_refused_for_want_of_memory_is_read_to_its_end_so_that_the_answer_arrives() {
        let bounds = BodyBounds::new(64 << 10, Duration::from_secs(5));
        let mut announced = HeaderMap::new();
        announced.insert(CONTENT_LENGTH, (160 << 10).into());
        for headers in [announced, HeaderMap::new()] {
            let (body, taken) = pieces(10);
            let refusal = bounds.read(&headers, body, 1 << 20).await.err().map(|it| it.slug);
            assert_eq!(
                (refusal, taken.load(Ordering::Relaxed)),
                (Some(Slug::Overloaded), 10)
            );
        }
    }

    #[tokio::test]
    async fn who_asks_before_sending_is_not_waited_for() {
        let bounds = BodyBounds::new(1 << 20, Duration::from_secs(5));
        let mut headers = HeaderMap::new();
        headers.insert(EXPECT, HeaderValue::from_static("100-continue"));
        let (body, taken) = pieces(10);
        bounds.discard(&headers, body).await;
        assert_eq!(taken.load(Ordering::Relaxed), 0);
        let (body, taken) = pieces(10);
        bounds.discard(&HeaderMap::new(), body).await;
        assert_eq!(taken.load(Ordering::Relaxed), 10);
    }
}

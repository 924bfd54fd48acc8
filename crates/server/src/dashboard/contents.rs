//! Contents of pages, rendered once for all who may see the same.
//!
//! A content is good for who was told of nothing newer. While events pour in, a content that took long to load is shown
//! for longer, so that a page which stays open costs a bounded share of the time, however many look at it; who gets it is
//! told that there is more to come. Who opens a page gets a content whose loading began after that.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use adjutant_dashboard::{Abilities, Markup};
use axum::body::Bytes;
use tokio::sync::Mutex as Turn;

use crate::failure::Failure;

/// Ages and heartbeats change without an event: what is older is loaded again.
const OLDEST: Duration = Duration::from_secs(5);
/// After it was loaded a content is shown for so many times as long as that took.
const REST_FACTOR: u32 = 20;
/// Contents that are kept; beyond that those that are too old are forgotten, then all.
const MAX_KEPT: usize = 256;
/// The most bytes of them.
const MAX_BYTES: usize = 16 << 20;

/// The address of a page, and who looks at it.
type Key = (String, Abilities);

/// Contents by address.
#[derive(Default)]
pub(super) struct Contents(Mutex<HashMap<Key, Arc<Turn<Option<Content>>>>>);

struct Content {
    text: Bytes,
    /// It shows all events up to this one.
    seq: u64,
    began: Instant,
    at: Instant,
}

/// What a visitor must see.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need {
    /// All events up to this one.
    pub(super) least_seq: u64,
    /// Its loading must have begun after this: not every change is an event.
    pub(super) after: Option<Instant>,
}

/// A content as it is shown.
pub(super) struct Shown {
    /// The markup.
    pub(super) text: Bytes,
    /// Whether it shows all that was needed.
    pub(super) is_newest: bool,
}

impl Content {
    fn is_good(&self, need: Need) -> bool {
        match need.after {
            Some(after) => self.began >= after && self.seq >= need.least_seq,
            None => self.rests() || (self.at.elapsed() < OLDEST && self.seq >= need.least_seq),
        }
    }

    /// Whether it is too early to load it again.
    fn rests(&self) -> bool {
        self.at.elapsed() < (self.at - self.began) * REST_FACTOR
    }

    fn is_of_use(&self) -> bool {
        self.rests() || self.at.elapsed() < OLDEST
    }
}

impl Contents {
    /// The content of a page, loaded by `load` where nobody has seen it yet. Who comes while it is loaded waits for that.
    pub(super) async fn get(
        &self,
        key: Key,
        need: Need,
        load: impl Future<Output = Result<Markup, Failure>>,
    ) -> Result<Shown, Failure> {
        let place = self.place(key);
        let mut place = place.lock().await;
        if let Some(content) = place.as_ref().filter(|content| content.is_good(need)) {
            return Ok(Shown {
                text: content.text.clone(),
                is_newest: content.seq >= need.least_seq,
            });
        }
        let began = Instant::now();
        let text = Bytes::from(load.await?.into_string());
        *place = Some(Content {
            text: text.clone(),
            seq: need.least_seq,
            began,
            at: Instant::now(),
        });
        Ok(Shown {
            text,
            is_newest: true,
        })
    }

    fn place(&self, key: Key) -> Arc<Turn<Option<Content>>> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !places.contains_key(&key) {
            let mut bytes = 0;
            // A place that is being filled stays: who waits for it holds it.
            places.retain(|_, place| {
                let Ok(content) = place.try_lock() else {
                    return true;
                };
                let kept = content.as_ref().filter(|content| content.is_of_use());
                bytes += kept.map_or(0, |content| content.text.len());
                kept.is_some()
            });
            if places.len() >= MAX_KEPT || bytes >= MAX_BYTES {
                places.clear();
            }
        }
        Arc::clone(places.entry(key).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Key {
        let abilities = Abilities {
            read: true,
            submit: false,
            admin: false,
        };
        (format!("/{number}"), abilities)
    }

    async fn get(contents: &Contents, number: usize, need: Need, text: &str) -> Shown {
        let text = adjutant_dashboard::sign_in::refusal(400, text, "");
        contents.get(key(number), need, async { Ok(text) }).await.unwrap()
    }

    fn up_to(least_seq: u64) -> Need {
        Need {
            least_seq,
            after: None,
        }
    }

    async fn text(contents: &Contents, need: Need, text: &str) -> String {
        let shown = get(contents, 0, need, text).await;
        // As if its loading had taken no time: it does not rest.
        let place = contents.place(key(0));
        let mut place = place.lock().await;
        let content = place.as_mut().unwrap();
        content.began = content.at;
        String::from_utf8(shown.text.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_content_is_loaded_once_until_something_happens() {
        let contents = Contents::default();
        for (seq, loaded, expected) in [
            (1, "one", "one"),
            (1, "two", "one"),
            (2, "two", "two"),
            (1, "three", "two"),
        ] {
            let shown = text(&contents, up_to(seq), loaded).await;
            assert!(shown.contains(expected), "{seq} {loaded}");
        }
        let after = Some(Instant::now());
        let opened = Need { least_seq: 2, after };
        assert!(text(&contents, opened, "four").await.contains("four"));
        // Who came at the same time, and waited until the other had it, sees the same.
        assert!(text(&contents, opened, "five").await.contains("four"));
    }

    #[tokio::test]
    async fn what_is_dear_rests_and_says_that_there_is_more() {
        let contents = Contents::default();
        let dear = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok(adjutant_dashboard::sign_in::page("x"))
        };
        assert!(contents.get(key(0), up_to(1), dear).await.unwrap().is_newest);
        assert!(!get(&contents, 0, up_to(2), "two").await.is_newest);
    }

    #[tokio::test]
    async fn the_memory_for_contents_is_bounded() {
        let contents = Contents::default();
        for number in 0..3 * MAX_KEPT {
            get(&contents, number, up_to(1), "x").await;
        }
        assert!(contents.0.lock().unwrap().len() <= MAX_KEPT);
        let large = "x".repeat(MAX_BYTES / 4);
        for number in 0..20 {
            get(&contents, number, up_to(2), &large).await;
        }
        let held = contents.0.lock().unwrap();
        let bytes = |place: &Arc<Turn<Option<Content>>>| {
            let content = place.try_lock().unwrap();
            content.as_ref().map_or(0, |content| content.text.len())
        };
        assert!(held.values().map(bytes).sum::<usize>() <= MAX_BYTES + large.len() * 2);
    }
}

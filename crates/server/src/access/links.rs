//! Sign-in links: a code that turns a browser into a session, once, within ten minutes.
//!
//! Codes are kept by digest in the memory of the server that made them, so that server alone takes them, and a restart
//! forgets them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::token::{NoRandomness, digest, secret};

/// How long a link may be used.
pub(crate) const LIFETIME: Duration = Duration::from_mins(10);
/// Links that wait to be used; beyond that the oldest are forgotten.
const MAX_LINKS: usize = 100;

/// Links that were made and not used yet.
#[derive(Default)]
pub(crate) struct Links(Mutex<HashMap<[u8; 32], Link>>);

struct Link {
    /// The digest of the token that it signs in.
    token: [u8; 32],
    made_at: Instant,
}

impl Links {
    /// The code of a new link for a token.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub(crate) fn make(&self, token: [u8; 32], now: Instant) -> Result<String, NoRandomness> {
        let code = secret()?;
        let mut links = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|_, link| now.duration_since(link.made_at) < LIFETIME);
        if links.len() >= MAX_LINKS
            && let Some(oldest) = links
                .iter()
                .min_by_key(|(_, link)| link.made_at)
                .map(|(code, _)| *code)
        {
            links.remove(&oldest);
        }
        links.insert(digest(&code), Link { token, made_at: now });
        Ok(code)
    }

    /// Uses a code up: the digest of its token, if it was good.
    pub(crate) fn take(&self, code: &str, now: Instant) -> Option<[u8; 32]> {
        let mut links = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let link = links.remove(&digest(code))?;
        (now.duration_since(link.made_at) < LIFETIME).then_some(link.token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_works_once_and_for_ten_minutes() {
        let (links, now) = (Links::default(), Instant::now());
        let code = links.make([1; 32], now).unwrap();
        assert_eq!(links.take("other", now), None);
        assert_eq!(links.take(&code, now + LIFETIME / 2), Some([1; 32]));
        assert_eq!(links.take(&code, now + LIFETIME / 2), None);
        let late = links.make([1; 32], now).unwrap();
        assert_eq!(links.take(&late, now + LIFETIME), None);
    }

    #[test]
    fn the_memory_for_links_is_bounded() {
        let (links, now) = (Links::default(), Instant::now());
        let first = links.make([0; 32], now).unwrap();
        for number in 1..=MAX_LINKS {
            links
                .make([1; 32], now + Duration::from_millis(number as u64))
                .unwrap();
        }
        assert_eq!(links.0.lock().unwrap().len(), MAX_LINKS);
        assert_eq!(links.take(&first, now + Duration::from_secs(1)), None);
    }
}

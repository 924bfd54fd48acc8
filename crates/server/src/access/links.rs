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
/// Links of one token that wait to be used; beyond that its oldest is forgotten.
const MAX_OF_ONE: usize = 10;
/// Links of all tokens; beyond that the oldest is forgotten.
const MAX_LINKS: usize = 1_000;

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
        let of_this = links.values().filter(|link| link.token == token).count();
        let oldest = links
            .iter()
            .filter(|(_, link)| of_this < MAX_OF_ONE || link.token == token)
            .min_by_key(|(_, link)| link.made_at)
            .map(|(code, _)| *code);
        if (of_this >= MAX_OF_ONE || links.len() >= MAX_LINKS)
            && let Some(oldest) = oldest
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
    fn who_makes_many_links_loses_its_own_and_the_memory_for_all_is_bounded() {
        let (links, now) = (Links::default(), Instant::now());
        let after = |millis: usize| now + Duration::from_millis(millis as u64);
        let others = links.make([0; 32], now).unwrap();
        let first = links.make([1; 32], after(1)).unwrap();
        for number in 0..MAX_LINKS {
            links.make([1; 32], after(2 + number)).unwrap();
        }
        assert_eq!(links.0.lock().unwrap().len(), MAX_OF_ONE + 1);
        assert_eq!(links.take(&first, after(MAX_LINKS)), None);
        assert_eq!(links.take(&others, after(MAX_LINKS)), Some([0; 32]));
        for token in 0..2 * MAX_LINKS {
            let mut digest = [2; 32];
            digest[..8].copy_from_slice(&token.to_le_bytes());
            links.make(digest, after(MAX_LINKS + token)).unwrap();
        }
        assert_eq!(links.0.lock().unwrap().len(), MAX_LINKS);
    }
}

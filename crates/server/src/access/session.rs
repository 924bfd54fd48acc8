//! Sessions: what a browser shows instead of a token.
//!
//! A cookie names a token by its digest and says until when; it is signed with a secret of the store, so nothing is kept,
//! and every server of that store accepts what any of them made. What it allows is what its token allows at that moment:
//! revoking the token ends all of its sessions at once.
//!
//! # Not here
//! How a browser gets one: [`super::links`].

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use sha2::Sha256;

use crate::token::hex;

/// How long a browser stays signed in.
pub(crate) const LIFETIME: Duration = Duration::from_hours(7 * 24);
/// What is signed begins with this, so that no signature counts for anything else.
const DOMAIN: &[u8] = b"session\0";
/// Bytes of a token's digest, and of the time behind it.
const DIGEST_BYTES: usize = 32;
/// Bytes of what is signed.
const CLAIM_BYTES: usize = DIGEST_BYTES + 8;

/// Makes and reads session cookies.
pub(crate) struct Sessions {
    keyed: Hmac<Sha256>,
    /// Servers on other ports of the same machine share a browser's cookies: each store has a name of its own.
    name: String,
    /// Whether browsers may send it over TLS only.
    secure: bool,
}

impl Sessions {
    /// With the secret of the store.
    pub(crate) fn new(secret: [u8; 32], secure: bool) -> Self {
        let keyed = Hmac::<Sha256>::new_from_slice(&secret).expect("HMAC takes keys of any length");
        let mut name = keyed.clone();
        name.update(b"session name");
        let name = format!("adjutant_{}", hex(&name.finalize().into_bytes()[..4]));
        Self { keyed, name, secure }
    }

    /// The cookie that speaks for a token from now on.
    pub(crate) fn cookie(&self, digest: &[u8; 32], now: SystemTime) -> HeaderValue {
        let mut claim = [0; CLAIM_BYTES];
        claim[..DIGEST_BYTES].copy_from_slice(digest);
        claim[DIGEST_BYTES..].copy_from_slice(&seconds(now + LIFETIME).to_be_bytes());
        let mut value = URL_SAFE_NO_PAD.encode(claim);
        value.push('.');
        value.push_str(&URL_SAFE_NO_PAD.encode(self.sign(&claim).finalize().into_bytes()));
        self.header(&value, LIFETIME)
    }

    /// The cookie that ends a session.
    pub(crate) fn end(&self) -> HeaderValue {
        self.header("", Duration::ZERO)
    }

    /// The digest of the token that a request's cookie speaks for.
    pub(crate) fn token(&self, headers: &HeaderMap, now: SystemTime) -> Option<[u8; 32]> {
        headers
            .get_all(COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .filter(|(name, _)| *name == self.name)
            .find_map(|(_, value)| self.read(value, now))
    }

    fn read(&self, value: &str, now: SystemTime) -> Option<[u8; 32]> {
        let (claim, signature) = value.split_once('.')?;
        let claim: [u8; CLAIM_BYTES] = URL_SAFE_NO_PAD.decode(claim).ok()?.try_into().ok()?;
        // Compares in constant time.
        self.sign(&claim)
            .verify_slice(&URL_SAFE_NO_PAD.decode(signature).ok()?)
            .ok()?;
        let (digest, until) = claim.split_at(DIGEST_BYTES);
        let until = u64::from_be_bytes(until.try_into().ok()?);
        (seconds(now) < until).then(|| digest.try_into().ok()).flatten()
    }

    fn sign(&self, claim: &[u8; CLAIM_BYTES]) -> Hmac<Sha256> {
        let mut mac = self.keyed.clone();
        mac.update(DOMAIN);
        mac.update(claim);
        mac
    }

    fn header(&self, value: &str, lifetime: Duration) -> HeaderValue {
        let mut text = format!(
            "{}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}",
            self.name,
            lifetime.as_secs()
        );
        if self.secure {
            // Writing to a String cannot fail.
            let _ = write!(text, "; Secure");
        }
        HeaderValue::from_str(&text).expect("a cookie is plain ASCII")
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(cookie: &HeaderValue) -> HeaderMap {
        let pair = cookie.to_str().unwrap().split(';').next().unwrap().to_owned();
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, format!("other=1; {pair}").parse().unwrap());
        headers
    }

    #[test]
    fn a_session_speaks_for_its_token_until_it_is_over() {
        let (sessions, now, digest) = (Sessions::new([1; 32], false), SystemTime::now(), [7; 32]);
        let headers = request(&sessions.cookie(&digest, now));
        assert_eq!(sessions.token(&headers, now), Some(digest));
        assert_eq!(sessions.token(&headers, now + LIFETIME), None);
        assert_eq!(Sessions::new([2; 32], false).token(&headers, now), None);
        assert_eq!(sessions.token(&request(&sessions.end()), now), None);
    }

    #[test]
    fn no_changed_session_counts() {
        let (sessions, now) = (Sessions::new([1; 32], false), SystemTime::now());
        let cookie = sessions.cookie(&[7; 32], now);
        let value = cookie
            .to_str()
            .unwrap()
            .split(['=', ';'])
            .nth(1)
            .unwrap()
            .to_owned();
        assert!(sessions.read(&value, now).is_some());
        for index in 0..value.len() - 1 {
            let mut forged = value.clone().into_bytes();
            forged[index] = if forged[index] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            assert_eq!(sessions.read(&forged, now), None, "{forged}");
        }
    }

    #[test]
    fn scripts_and_other_sites_do_not_get_at_it() {
        let cookie = |secure| {
            let cookie = Sessions::new([1; 32], secure).cookie(&[7; 32], SystemTime::now());
            cookie.to_str().unwrap().to_owned()
        };
        assert!(cookie(false).contains("; Path=/; HttpOnly; SameSite=Strict; Max-Age=604800"));
        assert!(!cookie(false).contains("Secure") && cookie(true).ends_with("; Secure"));
    }
}

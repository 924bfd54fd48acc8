//! Access tokens: how they are made, and what is kept of them.
//!
//! A token is `adj_` and 256 random bits in hexadecimal digits. Only its SHA-256 is kept: with that much
//! randomness a plain digest cannot be reversed, and it is fast enough for every request.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// What the system's source of randomness said when it failed.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random numbers: {0}")]
pub struct NoRandomness(String);

/// A new random token.
///
/// # Errors
/// When the system has no randomness to give.
pub fn generate() -> Result<String, NoRandomness> {
    let mut secret = [0_u8; 32];
    getrandom::fill(&mut secret).map_err(|error| NoRandomness(error.to_string()))?;
    Ok(format!("adj_{}", hex(&secret)))
}

/// What is kept of a token.
pub fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Hexadecimal digits of `bytes`.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_long_random_and_plain() {
        let (one, other) = (generate().unwrap(), generate().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.len(), 4 + 64);
        assert!(one.starts_with("adj_") && one.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
    }

    #[test]
    fn the_digest_is_plain_sha_256() {
        assert_eq!(
            hex(&digest("abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}

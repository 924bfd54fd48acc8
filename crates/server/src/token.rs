//! Access tokens: how they are made, and what is kept of them.
//!
//! A token is `adj_` and 256 random bits in hexadecimal digits. Only its SHA-256 is kept: with that much
//! randomness a plain digest cannot be reversed, and it is fast enough for every request.

use std::fmt::Write as _;

use adjutant_core::name::check_id;
use sha2::{Digest as _, Sha256};

/// The name of the token that `adjutant up` makes for itself; those of its agents begin with it and a colon.
const OWN_OF_UP: &str = "up";

/// What the system's source of randomness said when it failed.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random numbers: {0}")]
pub struct NoRandomness(String);

/// A new random token.
///
/// # Errors
/// When the system has no randomness to give.
pub fn generate() -> Result<String, NoRandomness> {
    Ok(format!("adj_{}", secret()?))
}

/// 256 random bits in hexadecimal digits.
pub(crate) fn secret() -> Result<String, NoRandomness> {
    let mut secret = [0_u8; 32];
    getrandom::fill(&mut secret).map_err(|error| NoRandomness(error.to_string()))?;
    Ok(hex(&secret))
}

/// What is kept of a token.
pub fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Checks the name of a token that a person asks for; says what is wrong with it.
///
/// # Errors
/// When it is not made like an agent's id (it claims tasks where no agent is named), or is reserved: `up` and `up:…`
/// are the names of the tokens that `adjutant up` makes for itself and puts in place at its start, whatever was there.
pub fn check_name(name: &str) -> Result<(), String> {
    check_id(name)?;
    if name == OWN_OF_UP
        || name
            .strip_prefix(OWN_OF_UP)
            .is_some_and(|rest| rest.starts_with(':'))
    {
        return Err(format!(
            "`{name}` is reserved: `adjutant up` makes tokens named `up` and `up:AGENT` for itself"
        ));
    }
    Ok(())
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

//! Attempt tokens: what the process that does the work may show.
//!
//! A token speaks for one attempt of one task, while that attempt lives: update, usage, output and completion of it,
//! and nothing else. It is `att_<base64url of task, attempt and agent>.<HMAC-SHA256 in hex>`, so nothing is stored:
//! the key is a secret of the store, and every server of that store accepts what any of them minted.
//!
//! # Not here
//! Whether the attempt lives: the core decides that with each command.

use adjutant_core::name::{AgentId, TaskId, check_id};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::token::hex;

/// What the name of an attempt token starts with.
pub(crate) const PREFIX: &str = "att_";

/// Whom an attempt token speaks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct AttemptClaim {
    /// The task.
    pub(crate) task: TaskId,
    /// The attempt's number.
    pub(crate) attempt: u32,
    /// The agent that runs it.
    pub(crate) agent: AgentId,
}

/// Mints and verifies attempt tokens.
pub(crate) struct AttemptMint {
    keyed: Hmac<Sha256>,
}

impl AttemptMint {
    /// A mint with this secret.
    pub(crate) fn new(secret: [u8; 32]) -> Self {
        Self {
            keyed: Hmac::new_from_slice(&secret).expect("HMAC takes keys of any length"),
        }
    }

    /// The token of an attempt.
    pub(crate) fn mint(&self, claim: &AttemptClaim) -> String {
        let payload = URL_SAFE_NO_PAD.encode(format!("{}\0{}\0{}", claim.task, claim.attempt, claim.agent));
        let mut mac = self.keyed.clone();
        mac.update(payload.as_bytes());
        format!("{PREFIX}{payload}.{}", hex(&mac.finalize().into_bytes()))
    }

    /// Whom the token speaks for, if it was minted with this secret.
    pub(crate) fn verify(&self, token: &str) -> Option<AttemptClaim> {
        let (payload, signature) = token.strip_prefix(PREFIX)?.split_once('.')?;
        let mut mac = self.keyed.clone();
        mac.update(payload.as_bytes());
        // Compares in constant time.
        mac.verify_slice(&unhex(signature)?).ok()?;
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
        let mut parts = text.split('\0');
        let (task, attempt, agent) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || check_id(task).is_err() || check_id(agent).is_err() {
            return None;
        }
        Some(AttemptClaim {
            task: task.into(),
            attempt: attempt.parse().ok()?,
            agent: agent.into(),
        })
    }
}

/// The bytes that a signature's 64 lower-case hexadecimal digits are: there is one way to write a token.
fn unhex(text: &str) -> Option<[u8; 32]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? * 16 + digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim() -> AttemptClaim {
        AttemptClaim {
            task: "task_1".into(),
            attempt: 7,
            agent: "worker-1".into(),
        }
    }

    #[test]
    fn a_token_speaks_for_the_attempt_that_it_was_minted_for() {
        let mint = AttemptMint::new([7; 32]);
        assert_eq!(mint.verify(&mint.mint(&claim())), Some(claim()));
    }

    #[test]
    fn another_secret_or_any_changed_byte_makes_it_worthless() {
        let token = AttemptMint::new([7; 32]).mint(&claim());
        assert_eq!(AttemptMint::new([8; 32]).verify(&token), None);
        let mint = AttemptMint::new([7; 32]);
        for index in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[index] = if forged[index] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            assert_eq!(mint.verify(&forged), None, "{forged}");
        }
        for forged in ["", "att_", "att_.", "att_x.y", &token[..token.len() - 1]] {
            assert_eq!(mint.verify(forged), None, "{forged}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_but_the_minted_one_verifies(
            text in "(att_)?[A-Za-z0-9_-]{0,40}\\.?[0-9a-f]{0,66}|\\PC{0,40}",
            at in 0_usize..200,
            byte in 0x20_u8..0x7f,
        ) {
            let mint = AttemptMint::new([7; 32]);
            proptest::prop_assert_eq!(mint.verify(&text), None);
            let token = mint.mint(&claim());
            let mut bent = token.clone().into_bytes();
            let at = at % (bent.len() + 1);
            if at == bent.len() {
                bent.push(byte);
            } else {
                bent[at] = byte;
            }
            let bent = String::from_utf8(bent).unwrap();
            proptest::prop_assert_eq!(mint.verify(&bent).is_some(), bent == token, "{}", bent);
            proptest::prop_assert_eq!(mint.verify(&token[..at]).is_some(), at == token.len());
        }
    }
}

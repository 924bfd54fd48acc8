//! The directory: which token speaks for whom.
//!
//! Holds what the store knows of tokens in memory, by digest. Tokens that are made or revoked here count at once;
//! those of other servers, and of the command line, once the directory is read again: every few seconds while
//! requests come in, and when a token is not known.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use adjutant_core::access::Role;
use adjutant_core::command::AccessToken;
use adjutant_engine::{Handle, Refusal};
use subtle::ConstantTimeEq as _;
use tokio::sync::Mutex;

/// After so long the directory is read again: the longest that a token revoked elsewhere still counts.
const REFRESH: Duration = Duration::from_secs(2);

/// Whom a token speaks for.
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    /// The token's name.
    pub(crate) name: Arc<str>,
    /// What it allows.
    pub(crate) roles: Arc<[Role]>,
}

/// Tokens by digest, as they were read at some time.
struct Snapshot {
    /// By the first bytes of the digest; the rest is compared in constant time.
    holders: HashMap<[u8; 8], Vec<([u8; 32], Holder)>>,
    /// When the reading began.
    read_at: Instant,
}

impl Snapshot {
    fn new(tokens: Vec<AccessToken>, read_at: Instant) -> Self {
        let mut holders: HashMap<_, Vec<_>> = HashMap::with_capacity(tokens.len());
        for token in tokens {
            let holder = Holder {
                name: token.name,
                roles: token.roles,
            };
            holders
                .entry(index(&token.digest))
                .or_default()
                .push((token.digest, holder));
        }
        Self { holders, read_at }
    }

    fn find(&self, digest: &[u8; 32]) -> Option<&Holder> {
        self.holders
            .get(&index(digest))?
            .iter()
            .find(|(own, _)| own.ct_eq(digest).into())
            .map(|(_, holder)| holder)
    }
}

fn index(digest: &[u8; 32]) -> [u8; 8] {
    let mut index = [0; 8];
    index.copy_from_slice(&digest[..8]);
    index
}

/// Which token speaks for whom.
pub(crate) struct Directory {
    handle: Handle,
    snapshot: RwLock<Arc<Snapshot>>,
    /// Held by the one who reads it again.
    reading: Mutex<()>,
}

impl Directory {
    /// Reads the directory.
    pub(crate) async fn open(handle: Handle) -> Result<Self, Refusal> {
        let snapshot = read(&handle).await?;
        Ok(Self {
            handle,
            snapshot: RwLock::new(Arc::new(snapshot)),
            reading: Mutex::new(()),
        })
    }

    /// Whom the token with this digest speaks for.
    ///
    /// One that is not known is looked for in the store, since it may just have been made elsewhere, if the caller is
    /// `curious`: who guesses tokens is not to keep the store busy.
    ///
    /// # Errors
    /// When it is not known here, and the store cannot be asked whether it is known by now.
    pub(crate) async fn find(&self, digest: &[u8; 32], curious: bool) -> Result<Option<Holder>, Refusal> {
        let arrived = Instant::now();
        let snapshot = self.snapshot();
        let age = arrived.duration_since(snapshot.read_at);
        let found = snapshot.find(digest).cloned();
        let stale = age >= REFRESH || (found.is_none() && curious);
        if !stale {
            return Ok(found);
        }
        // One reads; for the others the state of a moment ago is good enough, unless they need it now.
        let turn = match (found.is_some(), self.reading.try_lock()) {
            (_, Ok(turn)) => turn,
            (true, Err(_)) => return Ok(found),
            (false, Err(_)) => self.reading.lock().await,
        };
        let meanwhile = self.snapshot();
        if meanwhile.read_at >= arrived {
            drop(turn);
            return Ok(meanwhile.find(digest).cloned());
        }
        match self.reread().await {
            Ok(()) => {}
            // A store that is away must not lock everyone out who was let in a moment ago.
            Err(refusal) if found.is_some() => {
                tracing::warn!(%refusal, "the access tokens could not be read again");
                return Ok(found);
            }
            Err(refusal) => return Err(refusal),
        }
        drop(turn);
        Ok(self.snapshot().find(digest).cloned())
    }

    /// Reads the directory again, after a token was made or revoked.
    pub(crate) async fn refresh(&self) -> Result<(), Refusal> {
        let _turn = self.reading.lock().await;
        self.reread().await
    }

    async fn reread(&self) -> Result<(), Refusal> {
        let snapshot = Arc::new(read(&self.handle).await?);
        *self.snapshot.write().unwrap_or_else(PoisonError::into_inner) = snapshot;
        Ok(())
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.read().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn read(handle: &Handle) -> Result<Snapshot, Refusal> {
    // What is written from here on may be missing.
    let read_at = Instant::now();
    let tokens = handle.query(|reader| reader.tokens()).await?;
    Ok(Snapshot::new(tokens, read_at))
}

#[cfg(test)]
mod tests {
    use adjutant_core::time::Timestamp;

    use super::*;
    use crate::token::digest;

    #[test]
    fn a_token_is_found_by_its_whole_digest_only() {
        let mut close = digest("one");
        close[31] ^= 1;
        let token = |name: &str, digest| AccessToken {
            name: name.into(),
            digest,
            roles: [Role::Read].into(),
            created_at: Timestamp::EPOCH,
        };
        let snapshot = Snapshot::new(
            vec![token("one", digest("one")), token("two", digest("two"))],
            Instant::now(),
        );
        assert_eq!(&*snapshot.find(&digest("two")).unwrap().name, "two");
        assert!(snapshot.find(&close).is_none());
        assert!(snapshot.find(&digest("three")).is_none());
    }
}

//! The directory: which token speaks for whom.
//!
//! Holds what the store knows of tokens in memory, by digest. Tokens that are made or revoked here count at once, also
//! for what was begun before: who streams or waits asks to be told ([`Directory::until_revoked`]). Those of other
//! servers, and of the command line, count once the directory is read again: every second while requests come in or
//! streams are open, and when a token is not known.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adjutant_core::access::{Actor, Power, Role};
use adjutant_core::command::{AccessToken, Command};
use adjutant_engine::{Handle, Refusal};
use subtle::ConstantTimeEq as _;
use tokio::sync::{Mutex, watch};

use super::table::Rights;

/// After so long the directory is read again: the longest that a token revoked elsewhere still counts.
const REFRESH: Duration = Duration::from_secs(1);

/// Whom a token speaks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Holder {
    /// The token's name.
    pub(crate) name: Arc<str>,
    /// What it allows.
    pub(crate) roles: Arc<[Role]>,
}

/// What let a request in, for as long as what it asked for goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pass {
    /// The token.
    pub(crate) digest: [u8; 32],
    /// Who may use the endpoint.
    pub(crate) may: Rights,
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

    /// What it is after a token was made or revoked.
    fn after(&self, command: &Command) -> Self {
        let mut holders = self.holders.clone();
        match command {
            Command::PutToken(token) => {
                let holder = Holder {
                    name: Arc::clone(&token.name),
                    roles: Arc::clone(&token.roles),
                };
                holders
                    .entry(index(&token.digest))
                    .or_default()
                    .push((token.digest, holder));
            }
            Command::RevokeToken(name) => {
                for same in holders.values_mut() {
                    same.retain(|(_, holder)| holder.name != *name);
                }
            }
            _ => {}
        }
        Self {
            holders,
            read_at: self.read_at,
        }
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
    /// Its receivers are woken when what the tokens say has changed, and not when it was only read again.
    snapshot: watch::Sender<Arc<Snapshot>>,
    /// Held by the one who reads it again.
    reading: Mutex<()>,
    /// Held by the one who makes or revokes a token, so that two who make the same name do not both succeed.
    writing: Mutex<()>,
}

impl Directory {
    /// Reads the directory.
    pub(crate) async fn open(handle: Handle) -> Result<Self, Refusal> {
        let snapshot = read(&handle).await?;
        Ok(Self {
            handle,
            snapshot: watch::Sender::new(Arc::new(snapshot)),
            reading: Mutex::new(()),
            writing: Mutex::new(()),
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

    /// Keeps a new token; not when there is one with its name.
    ///
    /// To be run to its end, whoever asked: between the look and the change nobody else may come.
    pub(crate) async fn create(&self, token: AccessToken) -> Result<bool, Refusal> {
        let _turn = self.writing.lock().await;
        if self.has(&token.name).await? {
            return Ok(false);
        }
        self.write(Command::PutToken(token)).await?;
        Ok(true)
    }

    /// Forgets a token; not when there is none with this name. To be run to its end, whoever asked.
    pub(crate) async fn revoke(&self, name: Arc<str>) -> Result<bool, Refusal> {
        let _turn = self.writing.lock().await;
        if !self.has(&name).await? {
            return Ok(false);
        }
        self.write(Command::RevokeToken(name)).await?;
        Ok(true)
    }

    async fn has(&self, name: &str) -> Result<bool, Refusal> {
        let tokens = self.handle.query(|reader| reader.tokens()).await?;
        Ok(tokens.iter().any(|token| &*token.name == name))
    }

    /// Once it is stored it counts here at once, whether the directory can be read again or not.
    async fn write(&self, command: Command) -> Result<(), Refusal> {
        self.handle.call(Actor::admin(), command.clone(), None).await?;
        let _turn = self.reading.lock().await;
        if let Err(refusal) = self.reread().await {
            tracing::warn!(%refusal, "the access tokens could not be read again");
            self.snapshot
                .send_modify(|current| *current = Arc::new(current.after(&command)));
        }
        Ok(())
    }

    async fn reread(&self) -> Result<(), Refusal> {
        let snapshot = Arc::new(read(&self.handle).await?);
        self.snapshot.send_if_modified(|current| {
            let differs = current.holders != snapshot.holders;
            *current = snapshot;
            differs
        });
        Ok(())
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.borrow())
    }

    /// Waits until a pass is good no more. At once when the token is revoked here; for tokens that are revoked
    /// elsewhere somebody must [look](Self::look_again).
    pub(crate) async fn until_revoked(&self, pass: Pass) {
        // Subscribed before the look: what changes in between is seen.
        let mut changes = self.snapshot.subscribe();
        while pass.is_good(&changes.borrow_and_update().clone()) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Reads the directory again and again, for as long as somebody streams.
    pub(crate) async fn look_again(&self, pass: Pass) {
        loop {
            tokio::time::sleep(REFRESH).await;
            // What cannot be read now is read the next time.
            let _ = self.find(&pass.digest, false).await;
        }
    }
}

impl Pass {
    fn is_good(&self, snapshot: &Snapshot) -> bool {
        snapshot.find(&self.digest).is_some_and(|holder| {
            let actor = Actor {
                name: Arc::clone(&holder.name),
                power: Power::Roles(Arc::clone(&holder.roles)),
            };
            actor.is_admin() || !self.may.and(Rights::of(&actor)).is_empty()
        })
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

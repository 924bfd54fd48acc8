//! Writes down with the task which session its attempt has, as soon as it is known: a worker that is killed in the middle
//! cannot do it any more.

use std::time::Duration;

use adjutant_wire::TaskPatch;

use crate::adapter::AdapterKind;
use crate::reporter::{SEND_TIMEOUT, Voice, is_final};
use crate::session::Session;

/// A note that could not be made is tried again after this.
const PAUSE: Duration = Duration::from_secs(3);

/// Writes the notes of one attempt.
pub(crate) struct Scribe<'a> {
    voice: Voice<'a>,
    kind: AdapterKind,
    /// What the task has already.
    written: Option<Session>,
    /// The server takes no more notes.
    over: bool,
    /// The last note could not be made.
    failing: bool,
}

impl<'a> Scribe<'a> {
    /// `written` is the session that the task came with.
    pub(crate) const fn new(voice: Voice<'a>, kind: AdapterKind, written: Option<Session>) -> Self {
        Self {
            voice,
            kind,
            written,
            over: false,
            failing: false,
        }
    }

    /// Writes the session down once it is known, until the feed is closed. What is being sent then is sent to its end: it
    /// may have arrived already.
    pub(crate) async fn run(&mut self) {
        let feed = self.voice.feed;
        let mut known = feed.session();
        while !self.over {
            let session = known.borrow_and_update().clone();
            if let Some(session) = session.filter(|session| !self.has_id(session)) {
                self.write(&session).await;
            }
            tokio::select! {
                biased;
                () = feed.closed.cancelled() => return,
                () = tokio::time::sleep(PAUSE), if self.failing => {}
                Ok(()) = known.changed() => {}
            }
        }
    }

    /// Writes what is left to be known of an attempt that did not do the work. A session that failed again is closed. A
    /// server that just was away is not asked again: the end of the attempt does not wait for it.
    pub(crate) async fn conclude(&mut self, failed: bool, resumed: Option<&Session>) {
        if self.failing || self.over {
            return;
        }
        let session = self.voice.feed.session().borrow().clone();
        if let Some(resumed) = resumed.filter(|_| failed) {
            let note = session.as_ref().unwrap_or(resumed).closing_note(self.kind);
            self.note(note).await;
        } else if let Some(session) = session.filter(|session| self.written.as_ref() != Some(session)) {
            self.write(&session).await;
        }
    }

    fn has_id(&self, session: &Session) -> bool {
        self.written
            .as_ref()
            .is_some_and(|written| written.id == session.id)
    }

    async fn write(&mut self, session: &Session) {
        self.note(session.note(self.kind)).await;
        if !self.failing {
            self.written = Some(session.clone());
        }
    }

    async fn note(&mut self, text: String) {
        let Voice {
            client, agent, key, ..
        } = self.voice;
        let patch = TaskPatch {
            notes: Some(text),
            attempt: Some(key.attempt),
            agent_id: Some(agent.to_owned()),
            ..TaskPatch::default()
        };
        let sent = tokio::time::timeout(SEND_TIMEOUT, client.patch_task(&key.id, &patch)).await;
        self.failing = !matches!(sent, Ok(Ok(_)));
        if let Ok(Err(error)) = sent {
            self.over = is_final(&error);
            tracing::debug!(task = %key.id, %error, "the session of an attempt cannot be noted");
        }
    }
}

//! History: events are numbered without gaps, and each is of a kind that is known.

use adjutant_core::event::EventKind;
use rusqlite::{Connection, Result};

use super::Audit;
use crate::sqlite::forget::first_event;

const EVENTS: &str = "events";

impl Audit {
    pub(super) fn history(&mut self, db: &Connection) {
        self.attempt_to(EVENTS, |audit| audit.events(db));
    }

    fn events(&mut self, db: &Connection) -> Result<()> {
        let mut expected = first_event(db)?;
        let mut find = db.prepare("SELECT seq, kind FROM event ORDER BY seq")?;
        let mut rows = find.query([])?;
        while let Some(row) = rows.next()? {
            let seq: i64 = row.get(0)?;
            if seq > expected {
                self.wrong(EVENTS, format!("events {expected} to {} are missing", seq - 1));
            } else if seq < expected {
                self.wrong(EVENTS, format!("event {seq} stands before the first, {expected}"));
            }
            let kind = row.get_ref(1)?.as_str().unwrap_or_default();
            if EventKind::from_name(kind).is_none() {
                self.wrong(EVENTS, format!("event {seq} is of no known kind: {kind}"));
            }
            self.report.events += 1;
            self.report.last_seq = seq.unsigned_abs();
            expected = seq.saturating_add(1);
        }
        Ok(())
    }
}

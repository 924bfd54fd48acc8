//! Listens to the standard output of a program: parts it into events or lines and has them read.

use std::fmt::Write as _;

use serde_json::Value;

use super::documents::{Documents, Found, MAX_OBJECT_BYTES};
use super::report::Report;
use super::tally::Tally;
use super::{Cli, Past, Prints, Reader};
use crate::text::{Decoder, Tail};

/// A line of text is held up to this size; the rest of a longer one is passed over.
const MAX_LINE_BYTES: usize = 16 * 1024;
/// The end of what is printed beside events that is kept: programs complain there as well.
const MAX_STRAY_BYTES: usize = 4 * 1024;

/// Listens to one attempt.
pub(crate) struct Listener {
    prints: Prints,
    reader: Box<dyn Reader>,
    report: Report,
    documents: Documents,
    line: Vec<u8>,
    stray: Tail,
    stray_decoder: Decoder,
    unreadable: u64,
    too_long: u64,
}

impl Listener {
    pub(super) fn new(cli: &Cli, names: Vec<String>, past: Past) -> Self {
        Self {
            prints: cli.prints,
            reader: (cli.reader)(past),
            report: Report::new(Tally::new(names)),
            documents: Documents::default(),
            line: Vec::new(),
            stray: Tail::new(MAX_STRAY_BYTES),
            stray_decoder: Decoder::default(),
            unreadable: 0,
            too_long: 0,
        }
    }

    /// What the program prints.
    pub(crate) const fn prints(&self) -> Prints {
        self.prints
    }

    /// Takes standard output in.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        match self.prints {
            Prints::Events => {
                let mut documents = std::mem::take(&mut self.documents);
                documents.push(bytes, |found| self.found(&found));
                self.documents = documents;
            }
            Prints::Lines => {
                for part in bytes.split_inclusive(|byte| *byte == b'\n') {
                    let room = MAX_LINE_BYTES.saturating_sub(self.line.len());
                    self.line.extend_from_slice(&part[..part.len().min(room)]);
                    if part.ends_with(b"\n") {
                        self.end_line();
                    }
                }
            }
        }
    }

    /// No more comes.
    pub(crate) fn finish(&mut self) {
        let mut documents = std::mem::take(&mut self.documents);
        documents.finish(|found| self.found(&found));
        self.end_line();
    }

    /// What is known.
    pub(crate) const fn report(&mut self) -> &mut Report {
        &mut self.report
    }

    /// What it printed beside events, and what of them could not be read: told when there is no result.
    pub(crate) fn oddities(&mut self) -> (String, String) {
        // A string takes everything.
        let mut odd = String::new();
        if self.too_long > 0 {
            let mib = MAX_OBJECT_BYTES / 1024 / 1024;
            let _ = write!(
                odd,
                "; passed over because they have over {mib} MiB: {}",
                self.too_long
            );
        }
        if self.unreadable > 0 {
            let _ = write!(odd, "; not to be read as JSON: {}", self.unreadable);
        }
        (self.stray.take(), odd)
    }

    fn found(&mut self, found: &Found<'_>) {
        match *found {
            Found::Object(bytes) => match serde_json::from_slice::<Value>(bytes) {
                Ok(event) => self.reader.event(&event, &mut self.report),
                Err(_) => self.unreadable += 1,
            },
            Found::Text(bytes) => {
                let text = self.stray_decoder.push(bytes);
                self.stray.push(&text);
            }
            Found::TooLong => self.too_long += 1,
            Found::Broken => self.unreadable += 1,
        }
    }

    fn end_line(&mut self) {
        if !self.line.is_empty() {
            let line = String::from_utf8_lossy(&self.line);
            self.reader.line(line.trim_end(), &mut self.report);
            self.line.clear();
        }
    }

    /// How many bytes are held, beside the answer.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.documents.capacity() + self.line.capacity()
    }
}

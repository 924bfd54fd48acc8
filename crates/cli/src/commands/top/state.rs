//! What `top` knows, and how it changes: by keys, by time, by answers. Nothing here does anything; what is to be asked of
//! the server comes back as [`Ask`]s.
//!
//! # Not here
//! How it looks: [`super::view`]. Keys: [`super::keys`].

use std::time::Duration;

use adjutant_core::time::Timestamp;
use adjutant_wire::{Agent, FleetStatus, Task};
use crossterm::event::KeyEvent;

use super::ask::{Answer, Ask, Trouble};
use super::deed::Deed;
use super::detail::Detail;
use super::filter::QueueFilter;
use super::layout;
use super::list::List;
use super::pace::Pace;

/// A message stays so long.
const MESSAGE_FOR: Duration = Duration::from_secs(8);

/// What happens to the state.
#[derive(Debug)]
pub(super) enum Happening {
    /// Somebody pressed a key.
    Key(KeyEvent),
    /// The terminal has this size from now on.
    Resize(u16, u16),
    /// Time goes on.
    Tick(Moment),
    /// The server answered.
    Answer(Answer),
}

/// A moment, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// Since the start; it never goes back.
    pub(super) at: Duration,
    /// What the clock on the wall says.
    pub(super) clock: Timestamp,
}

/// Which list keys go to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Focus {
    Fleet,
    Queue,
}

/// What lies above the rest and takes all keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Overlay {
    None,
    Help,
    /// A deed waits for a yes.
    Confirm {
        deed: Deed,
        id: String,
    },
    /// A filter is typed.
    Typing {
        text: String,
        /// Why it cannot be what is meant.
        wrong: Option<String>,
    },
}

/// Whether the server answers.
#[derive(Clone, Debug)]
pub(super) enum Link {
    /// Nothing came yet.
    Connecting,
    /// It answers.
    Up,
    /// It does not, since then.
    Away { since: Duration, why: String },
    /// It says no.
    Refused { why: String },
}

/// What was done, or could not be done.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) text: String,
    pub(super) is_good: bool,
    until: Duration,
}

/// Everything.
#[derive(Debug)]
pub(super) struct State {
    /// The address of the server.
    pub(super) server: String,
    pub(super) now: Moment,
    pub(super) size: (u16, u16),
    pub(super) link: Link,
    pub(super) counts: Option<FleetStatus>,
    pub(super) counts_pace: Pace,
    pub(super) fleet: List<Agent>,
    pub(super) queue: List<Task>,
    pub(super) focus: Focus,
    pub(super) detail: Option<Detail>,
    pub(super) overlay: Overlay,
    pub(super) message: Option<Message>,
    /// Deeds that are not answered yet.
    pub(super) deeds: usize,
    /// Somebody has seen enough.
    pub(super) is_over: bool,
}

impl State {
    /// Before anything is known.
    pub(super) fn new(server: String, filter: QueueFilter, size: (u16, u16), now: Moment) -> Self {
        let mut state = Self {
            server,
            now,
            size,
            link: Link::Connecting,
            counts: None,
            counts_pace: Pace::default(),
            fleet: List::default(),
            queue: List::default(),
            focus: Focus::Queue,
            detail: None,
            overlay: Overlay::None,
            message: None,
            deeds: 0,
            is_over: false,
        };
        state.queue.narrow(filter);
        state.fit();
        state
    }

    /// Takes in what happened; gives what is to be asked now.
    pub(super) fn update(&mut self, happening: Happening) -> Vec<Ask> {
        let mut asks = Vec::new();
        match happening {
            Happening::Key(key) => asks.extend(self.press(key)),
            Happening::Resize(columns, rows) => {
                self.size = (columns, rows);
                self.fit();
            }
            Happening::Tick(now) => {
                self.now = now;
                self.message.take_if(|message| now.at >= message.until);
            }
            Happening::Answer(answer) => self.take(answer),
        }
        self.ask_what_is_due(&mut asks);
        asks
    }

    fn ask_what_is_due(&mut self, asks: &mut Vec<Ask>) {
        let at = self.now.at;
        let last = self.counts.as_ref().map_or(0, |counts| counts.last_seq);
        if self.counts_pace.asks(at, last, true) {
            asks.push(Ask::Counts);
        }
        if !matches!(self.link, Link::Up) {
            // One question is enough to see that it is back.
            return;
        }
        if let Some(detail) = &mut self.detail {
            if detail.pace.asks(at, last, detail.changes_silently()) {
                asks.push(detail.question());
            }
            // The lists are not to be seen.
            return;
        }
        if self.fleet.pace.asks(at, last, false) {
            let (cursor, limit) = self.fleet.question();
            let filter = self.fleet.filter();
            asks.push(Ask::Agents {
                cursor,
                status: filter.status,
                capabilities: filter.capabilities.clone(),
                limit,
            });
        }
        if self.queue.pace.asks(at, last, false) {
            let (cursor, limit) = self.queue.question();
            asks.push(Ask::Tasks {
                cursor,
                filter: self.queue.filter().tasks.clone(),
                limit,
            });
        }
    }

    fn take(&mut self, answer: Answer) {
        let at = self.now.at;
        match answer {
            Answer::Counts(counts) => {
                self.counts_pace.answers(at);
                match counts {
                    Ok(counts) => {
                        self.counts = Some(counts);
                        self.link = Link::Up;
                    }
                    Err(trouble) => self.lose(trouble),
                }
            }
            Answer::Agents(page) => {
                if self.fleet.pace.answers(at) {
                    match page {
                        Ok(page) => self.fleet.take(page),
                        Err(trouble) if trouble.is_away => self.lose(trouble),
                        Err(trouble) => self.fleet.refusal = Some(trouble.why),
                    }
                }
            }
            Answer::Tasks(page) => {
                if self.queue.pace.answers(at) {
                    match page {
                        Ok(page) => self.queue.take(page),
                        Err(trouble) if trouble.is_away => self.lose(trouble),
                        Err(trouble) => self.queue.refusal = Some(trouble.why),
                    }
                }
            }
            Answer::Task { id, found } => {
                if let Some(detail) = self.detail.as_mut().filter(|detail| detail.id() == id) {
                    detail.pace.answers(at);
                    detail.take_task(found);
                }
            }
            Answer::Agent { id, found } => {
                if let Some(detail) = self.detail.as_mut().filter(|detail| detail.id() == id) {
                    detail.pace.answers(at);
                    detail.take_agent(found);
                }
            }
            Answer::Done { id, status } => {
                self.deeds = self.deeds.saturating_sub(1);
                match status {
                    Ok(status) => self.say(format!("{id} is {status}"), true),
                    Err(trouble) => self.say(format!("{id}: {}", trouble.why), false),
                }
                self.look_again();
            }
        }
    }

    fn lose(&mut self, trouble: Trouble) {
        let since = match self.link {
            Link::Away { since, .. } => since,
            _ => self.now.at,
        };
        self.link = if trouble.is_away {
            Link::Away {
                since,
                why: trouble.why,
            }
        } else {
            Link::Refused { why: trouble.why }
        };
        if matches!(self.link, Link::Away { .. }) {
            // What is shown is old by the time that it comes back.
            self.look_again();
        }
    }

    /// Asks for everything that is shown, at once.
    pub(super) fn look_again(&mut self) {
        self.fleet.pace.want();
        self.queue.pace.want();
        if let Some(detail) = &mut self.detail {
            detail.pace.want();
        }
    }

    /// Tells something for a while.
    pub(super) fn say(&mut self, text: String, is_good: bool) {
        self.message = Some(Message {
            text,
            is_good,
            until: self.now.at + MESSAGE_FOR,
        });
    }

    /// Opens or closes a page.
    pub(super) fn show(&mut self, detail: Option<Detail>) {
        self.detail = detail;
        if self.detail.is_none() {
            self.look_again();
        }
    }

    /// Makes the lists as high as their panes.
    fn fit(&mut self) {
        let (fleet, queue) = layout::rows(self.size);
        self.fleet.resize(fleet);
        self.queue.resize(queue);
    }

    /// How long the slowest answer has been waited for.
    pub(super) fn waits(&self) -> Duration {
        let at = self.now.at;
        self.counts_pace.waits(at).max(self.queue.pace.waits(at))
    }
}

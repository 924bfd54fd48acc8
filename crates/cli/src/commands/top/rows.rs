//! What a list is a list of: agents or tasks, how they are told apart, found and sorted.

use std::cmp::{Ordering, Reverse};

use adjutant_wire::{Agent, Task};

use super::filter::{FleetFilter, QueueFilter};

/// A row of a list.
pub(super) trait Row {
    /// What the list may be narrowed down to.
    type Filter: Default;
    /// What the list may be sorted by; the default is the order of the server.
    type Sort: Copy + Default + PartialEq;

    /// Its id.
    fn id(&self) -> &str;
    /// Whether the word, in lower case, occurs in it.
    fn has(&self, word: &str) -> bool;
    /// How it stands to another.
    fn compare(&self, other: &Self, by: Self::Sort) -> Ordering;
    /// The words that must occur.
    fn words(filter: &Self::Filter) -> &[String];
}

/// What agents are sorted by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum FleetSort {
    /// As the server lists them.
    #[default]
    Id,
    /// The busiest first.
    Load,
    /// The longest silent first.
    Silence,
    /// By state, the available ones first.
    Status,
}

impl FleetSort {
    /// The next one.
    pub(super) const fn next(self) -> Self {
        match self {
            Self::Id => Self::Load,
            Self::Load => Self::Silence,
            Self::Silence => Self::Status,
            Self::Status => Self::Id,
        }
    }

    /// As it is shown.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Load => "load",
            Self::Silence => "silence",
            Self::Status => "status",
        }
    }
}

/// What tasks are sorted by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum QueueSort {
    /// As the server lists them: pending ones in the order in which they will start, others newest first.
    #[default]
    Server,
    /// The most urgent first.
    Priority,
    /// What changed last first.
    Changed,
    /// The furthest first.
    Progress,
    /// What used the most tokens first.
    Tokens,
}

impl QueueSort {
    /// The next one.
    pub(super) const fn next(self) -> Self {
        match self {
            Self::Server => Self::Priority,
            Self::Priority => Self::Changed,
            Self::Changed => Self::Progress,
            Self::Progress => Self::Tokens,
            Self::Tokens => Self::Server,
        }
    }

    /// As it is shown.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Priority => "priority",
            Self::Changed => "change",
            Self::Progress => "progress",
            Self::Tokens => "tokens",
        }
    }
}

/// Input and output tokens of a task.
pub(super) const fn tokens(task: &Task) -> u64 {
    task.usage.tokens_in.saturating_add(task.usage.tokens_out)
}

fn contains(text: &str, word: &str) -> bool {
    text.to_lowercase().contains(word)
}

impl Row for Agent {
    type Filter = FleetFilter;
    type Sort = FleetSort;

    fn id(&self) -> &str {
        &self.id
    }

    fn has(&self, word: &str) -> bool {
        let texts = [&self.id, &self.name].into_iter();
        let mut texts = texts.chain(&self.capabilities).chain(&self.models);
        texts.any(|text| contains(text, word)) || self.status.name().contains(word)
    }

    fn compare(&self, other: &Self, by: FleetSort) -> Ordering {
        match by {
            FleetSort::Id => self.id.cmp(&other.id),
            FleetSort::Load => other.current_load.cmp(&self.current_load),
            FleetSort::Silence => self.last_heartbeat.cmp(&other.last_heartbeat),
            FleetSort::Status => self.status.name().cmp(other.status.name()),
        }
    }

    fn words(filter: &FleetFilter) -> &[String] {
        &filter.words
    }
}

impl Row for Task {
    type Filter = QueueFilter;
    type Sort = QueueSort;

    fn id(&self) -> &str {
        &self.id
    }

    fn has(&self, word: &str) -> bool {
        let some = [&self.model, &self.project, &self.repo, &self.claimed_by];
        let texts = [&self.id, &self.title].into_iter().chain(&self.labels);
        let mut texts = texts.chain(some.into_iter().flatten());
        texts.any(|text| contains(text, word)) || self.status.name().contains(word)
    }

    fn compare(&self, other: &Self, by: QueueSort) -> Ordering {
        match by {
            QueueSort::Server => Ordering::Equal,
            QueueSort::Priority => self.priority.cmp(&other.priority),
            QueueSort::Changed => other.updated_at.cmp(&self.updated_at),
            QueueSort::Progress => other.progress.cmp(&self.progress),
            QueueSort::Tokens => Reverse(tokens(self)).cmp(&Reverse(tokens(other))),
        }
    }

    fn words(filter: &QueueFilter) -> &[String] {
        &filter.words
    }
}

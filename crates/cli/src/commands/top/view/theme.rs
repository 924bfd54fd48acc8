//! Looks: the colours of the terminal itself, so that they can be read on light and on dark ones alike.
//!
//! What matters never hangs on a colour alone: the words say it too, and NO_COLOR leaves bold, dim and reversed text.

use adjutant_core::agent::AgentStatus;
use adjutant_core::task::Status;
use ratatui::style::{Color, Modifier, Style};

/// How things look.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Theme {
    colours: bool,
}

impl Theme {
    /// With colours or without.
    pub(in super::super) const fn new(colours: bool) -> Self {
        Self { colours }
    }

    fn colour(self, colour: Color) -> Style {
        if self.colours {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    }

    pub(super) fn good(self) -> Style {
        self.colour(Color::Green)
    }

    pub(super) fn bad(self) -> Style {
        self.colour(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// Not yellow, which is not to be seen on white.
    pub(super) fn odd(self) -> Style {
        self.colour(Color::Magenta)
    }

    pub(super) fn busy(self) -> Style {
        self.colour(Color::Blue).add_modifier(Modifier::BOLD)
    }

    pub(super) const fn faint() -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub(super) const fn strong() -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub(super) const fn marked() -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    pub(super) fn of_agent(self, status: AgentStatus) -> Style {
        match status {
            AgentStatus::Available => self.good(),
            AgentStatus::Busy => self.busy(),
            AgentStatus::Draining => self.odd(),
            AgentStatus::Quarantined => self.bad(),
            AgentStatus::Offline => Self::faint(),
        }
    }

    pub(super) fn of_task(self, status: Status) -> Style {
        match status {
            Status::Pending => Style::new(),
            Status::Blocked => self.odd(),
            Status::InProgress => self.busy(),
            Status::Completed => self.good(),
            Status::Failed => self.bad(),
            Status::Cancelled => Self::faint(),
        }
    }
}

//! The terminal: keys in, pictures out, and everything as it was in the end, however that comes.
//!
//! # Invariants
//! - The terminal is as before after a key, a signal, an error and a panic.
//! - One thing at a time: what happens is taken in, what is asked is sent off, and a picture is drawn.

use std::time::{Duration, Instant};

use adjutant_client::Client;
use adjutant_engine::clock::wall;
use crossterm::event::{Event, EventStream};
use futures_util::StreamExt as _;
use ratatui::DefaultTerminal;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::ask;
use super::filter::QueueFilter;
use super::state::{Happening, Link, Moment, State};
use super::view::{self, Theme};
use crate::failure::{Failure, Outcome};
use crate::signals;

/// So often ages are brought up to date, and what is due is asked.
const TICK: Duration = Duration::from_millis(250);

/// Restores the terminal when it goes.
struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    fn open() -> Outcome<Self> {
        let terminal = ratatui::try_init().map_err(|error| {
            ratatui::restore();
            Failure::new(format!("cannot use the terminal: {error}"))
        })?;
        Ok(Self { terminal })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing, and nobody would read of it.
        let _ = self.terminal.show_cursor();
        let _ = ratatui::try_restore();
    }
}

/// Runs until somebody has seen enough, or a signal comes.
pub(super) async fn run(client: &Client, filter: QueueFilter, theme: Theme) -> Outcome {
    let mut stop = std::pin::pin!(signals::stop_or_hangup()?);
    let started = Instant::now();
    let moment = || Moment {
        at: started.elapsed(),
        clock: wall(),
    };
    let mut screen = Screen::open()?;
    let size = screen.terminal.size()?;
    let mut state = State::new(
        client.base_url().to_owned(),
        filter,
        (size.width, size.height),
        moment(),
    );
    let mut keys = EventStream::new();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut answers = JoinSet::new();
    while !state.is_over {
        screen.terminal.draw(|frame| view::draw(frame, &state, theme))?;
        let happening = tokio::select! {
            _ = &mut stop => break,
            event = keys.next() => match event {
                Some(Ok(Event::Key(key))) => Happening::Key(key),
                Some(Ok(Event::Resize(columns, rows))) => Happening::Resize(columns, rows),
                Some(Ok(_)) => continue,
                Some(Err(error)) => {
                    return Err(Failure::new(format!("cannot read the terminal: {error}")));
                }
                None => return Err(Failure::new("the terminal is gone")),
            },
            _ = ticks.tick() => Happening::Tick(moment()),
            Some(answer) = answers.join_next() => match answer {
                Ok(answer) => Happening::Answer(answer),
                Err(error) => return Err(Failure::new(format!("a question to the server failed: {error}"))),
            },
        };
        let asks = state.update(happening);
        if let (Link::Refused { why }, None) = (&state.link, &state.counts) {
            // A wrong token, or another kind of server: nothing of what follows would work.
            return Err(Failure::new(why.clone()));
        }
        for ask in asks {
            answers.spawn(ask::answer(client.clone(), ask));
        }
    }
    Ok(())
}

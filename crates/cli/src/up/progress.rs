//! Progress: a bar for each agent and one for the total on a terminal, plain lines otherwise. Both on stderr.

use std::collections::HashMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing_subscriber::fmt::MakeWriter;

use super::tally::{Step, Tally};
use crate::text::{clip, length, one_line};

/// So many titles of running tasks are remembered; more run in no fleet of one machine.
const MOST_TITLES: usize = 10_000;

/// Shows how it goes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Progress {
    screen: Option<MultiProgress>,
    titles: Arc<Mutex<HashMap<String, String>>>,
}

/// The bars, or none.
pub(crate) struct Bars {
    progress: Progress,
    agents: HashMap<String, ProgressBar>,
    total: Option<ProgressBar>,
}

impl Progress {
    /// Bars on a terminal, lines otherwise.
    pub(crate) fn new() -> Self {
        let screen = io::stderr()
            .is_terminal()
            .then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));
        Self {
            screen,
            titles: Arc::default(),
        }
    }

    /// Prints a line above the bars. A terminal that is gone is no reason to stop working.
    pub(crate) fn line(&self, text: &str) {
        let text = one_line(text);
        let printed = match &self.screen {
            Some(screen) => screen.println(&text),
            None => writeln!(io::stderr().lock(), "{text}"),
        };
        if let Err(error) = printed {
            tracing::debug!(%error, "progress could not be shown");
        }
    }

    /// Remembers the title of what an agent starts.
    pub(crate) fn remember(&self, task: String, title: String) {
        let mut titles = self.titles.lock().unwrap_or_else(PoisonError::into_inner);
        if titles.len() < MOST_TITLES {
            titles.insert(task, title);
        }
    }

    fn forget(&self, task: &str) -> String {
        let mut titles = self.titles.lock().unwrap_or_else(PoisonError::into_inner);
        titles.remove(task).unwrap_or_default()
    }

    fn title(&self, task: &str) -> String {
        let titles = self.titles.lock().unwrap_or_else(PoisonError::into_inner);
        titles.get(task).cloned().unwrap_or_default()
    }

    /// Bars for these agents: id and how much they can hold.
    pub(crate) fn bars<'a>(&self, agents: impl IntoIterator<Item = (&'a str, u32)>) -> Bars {
        let mut bars = Bars {
            progress: self.clone(),
            agents: HashMap::new(),
            total: None,
        };
        if let Some(screen) = &self.screen {
            for (id, max_load) in agents {
                let bar = screen.add(ProgressBar::new(u64::from(max_load.max(1))));
                bar.set_style(style("{prefix:16!} {bar:10} {pos}/{len} {msg}"));
                bar.set_prefix(one_line(id));
                bars.agents.insert(id.to_owned(), bar);
            }
            let total = screen.add(ProgressBar::new(0));
            total.set_style(style("{prefix:16!} {bar:10} {pos}/{len} {msg} {elapsed}"));
            total.set_prefix("all tasks");
            bars.total = Some(total);
        }
        bars
    }
}

/// The templates are constants and tested, so the default is never needed.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("█▌░")
}

impl Bars {
    /// Shows a step, and how things stand after it.
    pub(crate) fn show(&self, step: &Step, tally: &Tally) {
        let counts = tally.counts;
        let done = counts.completed + counts.failed + counts.cancelled;
        let place = format!("[{done}/{}]", counts.all());
        match step {
            Step::Started { agent, task } => {
                let title = self.progress.title(task);
                self.agent(agent, tally, if title.is_empty() { task } else { &title });
            }
            Step::Completed { agent, task, took } => {
                let took = took.map_or_else(String::new, |took| format!(" in {}", length(took)));
                self.say(&format!("{place} {agent} completed {}{took}", self.name(task)));
                self.agent(agent, tally, "");
            }
            Step::Failed { agent, task, reason } => {
                let title = self.progress.title(task);
                self.say(&format!(
                    "{place} {agent} failed {}: {reason}",
                    named(task, &title)
                ));
                self.agent(agent, tally, "");
            }
            Step::GivenUp { task } => self.say(&format!("{place} gave up {}", self.name(task))),
            Step::Ended { agent, task, how } => {
                self.say(&format!("{place} {how}: {}", self.name(task)));
                if let Some(agent) = agent {
                    self.agent(agent, tally, "");
                }
            }
            Step::Agent { agent, what } => self.say(&format!("{place} {agent} {what}")),
        }
        self.total(tally);
    }

    /// Shows how many tasks stand where.
    pub(crate) fn total(&self, tally: &Tally) {
        if let Some(total) = &self.total {
            let counts = tally.counts;
            total.set_length(counts.all());
            total.set_position(counts.all() - counts.open);
            total.set_message(if counts.failed > 0 {
                format!("{} failed", counts.failed)
            } else {
                String::new()
            });
        }
    }

    /// Takes the bars away, before the summary is printed.
    pub(crate) fn clear(&self) {
        for bar in self.agents.values().chain(&self.total) {
            bar.finish_and_clear();
        }
    }

    fn agent(&self, agent: &str, tally: &Tally, doing: &str) {
        if let Some(bar) = self.agents.get(agent) {
            bar.set_position(tally.load(agent) as u64);
            bar.set_message(clip(&one_line(doing), 40));
        }
    }

    /// The task's id and title, for the last time.
    fn name(&self, task: &str) -> String {
        named(task, &self.progress.forget(task))
    }

    /// On a terminal the bars say enough of what goes well.
    fn say(&self, text: &str) {
        self.progress.line(text);
    }
}

/// The task's id and title, where they differ.
fn named(task: &str, title: &str) -> String {
    if title.is_empty() || title == task {
        task.to_owned()
    } else {
        format!("{task} {}", clip(title, 40))
    }
}

impl<'a> MakeWriter<'a> for Progress {
    type Writer = LogWriter;
    fn make_writer(&'a self) -> LogWriter {
        LogWriter(self.clone())
    }
}

/// Writes log lines without tearing the bars.
pub(crate) struct LogWriter(Progress);

impl io::Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &self.0.screen {
            Some(screen) => screen.suspend(|| io::stderr().lock().write_all(bytes))?,
            None => io::stderr().lock().write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_of_bars_are_valid() {
        for template in [
            "{prefix:16!} {bar:10} {pos}/{len} {msg}",
            "{prefix:16!} {bar:10} {pos}/{len} {msg} {elapsed}",
        ] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}

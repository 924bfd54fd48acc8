//! Agents, as a test moves them: they join, sync, wait, take, finish, fall silent.

use std::sync::Arc;

use adjutant_core::access::Actor;
use adjutant_core::agent::Agent;
use adjutant_core::attempt::StopReason;
use adjutant_core::command::{Answer, Command, SyncAnswer, Ticket};
use adjutant_core::decide::Verdict;
use adjutant_core::rejection::Rejection;

use super::Fleet;
use super::say::{Crew, Roll, done, failed, roll};

/// What is to be started, by id and attempt.
pub(crate) fn starts(answer: &SyncAnswer) -> Vec<(String, u32)> {
    answer
        .start
        .iter()
        .map(|start| (start.view.task.id.to_string(), start.attempt))
        .collect()
}

/// What is to be stopped, and why.
pub(crate) fn stops(answer: &SyncAnswer) -> Vec<(String, u32, StopReason)> {
    answer
        .stop
        .iter()
        .map(|stop| (stop.id.to_string(), stop.attempt, stop.reason))
        .collect()
}

impl Fleet {
    pub(crate) fn join(&mut self, crew: Crew) -> Arc<Agent> {
        self.awake.insert(crew.0.id.clone());
        Self::agent_of(self.call(Command::Register(crew.0))).unwrap()
    }

    fn agent_of(verdict: Verdict) -> Result<Arc<Agent>, Rejection> {
        match verdict? {
            Answer::Agent(agent) => Ok(agent),
            other => panic!("an agent was expected, not {other:?}"),
        }
    }

    pub(crate) fn agent(&mut self, id: &str) -> Arc<Agent> {
        Self::agent_of(self.call(Command::GetAgent(id.into()))).unwrap()
    }

    /// What others see an agent doing.
    pub(crate) fn doing(&mut self, id: &str) -> &'static str {
        self.agent(id).status().name()
    }

    pub(crate) fn deregister(&mut self, id: &str) {
        self.silence(id);
        Self::agent_of(self.call(Command::Deregister(id.into()))).unwrap();
    }

    pub(crate) fn drain(&mut self, id: &str) {
        Self::agent_of(self.call(Command::Drain(id.into()))).unwrap();
    }

    pub(crate) fn undrain(&mut self, id: &str) {
        Self::agent_of(self.call(Command::Undrain(id.into()))).unwrap();
    }

    pub(crate) fn lift(&mut self, id: &str) {
        Self::agent_of(self.call(Command::Lift(id.into()))).unwrap();
    }

    /// A sync that is answered at once.
    pub(crate) fn sync(&mut self, roll: Roll) -> SyncAnswer {
        self.try_sync(roll).unwrap()
    }

    pub(crate) fn try_sync(&mut self, roll: Roll) -> Result<SyncAnswer, Rejection> {
        match self.call(Command::Sync(roll.into()))? {
            Answer::Sync(answer) => Ok(*answer),
            other => panic!("a roll-call's answer was expected, not {other:?}"),
        }
    }

    /// A sync that waits: it is not answered at once.
    pub(crate) fn wait(&mut self, roll: Roll) -> Ticket {
        let verdict = self.ask(Actor::admin(), Command::Sync(roll.wait(20).into()), None);
        assert!(
            verdict.is_none(),
            "the sync was to wait, and was answered {verdict:?}"
        );
        Ticket(self.tickets)
    }

    /// What a sync that waited was answered, if it was.
    pub(crate) fn heard(&mut self, ticket: Ticket) -> Option<SyncAnswer> {
        match self.heard.remove(&ticket)? {
            Ok(Answer::Sync(answer)) => Some(*answer),
            other => panic!("a roll-call's answer was expected, not {other:?}"),
        }
    }

    /// The wait of a sync is over.
    pub(crate) fn wait_over(&mut self, agent: &str, ticket: Ticket) {
        Self::done_of(self.call(Command::WaitOver(agent.into(), ticket))).unwrap();
    }

    /// What an agent runs or could start: attempts that occupy it.
    pub(crate) fn running(&mut self, agent: &str) -> Vec<(String, u32)> {
        self.occupying(agent, 1)
    }

    /// An agent fetches what it is offered and says that it has it. Gives what it runs then.
    pub(crate) fn take(&mut self, agent: &str) -> Vec<(String, u32)> {
        let mut running = self.running(agent);
        let answer = self.sync(roll(agent).listing(&running));
        running.extend(
            answer
                .start
                .iter()
                .map(|start| (start.view.task.id.to_string(), start.attempt)),
        );
        running.sort();
        self.sync(roll(agent).listing(&running));
        running
    }

    /// An agent reports a task done that it holds.
    pub(crate) fn finish(&mut self, id: &str) {
        self.complete(done(id)).unwrap();
    }

    /// An agent reports the failure of a task that it holds.
    pub(crate) fn fail(&mut self, id: &str) {
        self.complete(failed(id)).unwrap();
    }
}

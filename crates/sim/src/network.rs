//! The network: it loses messages, doubles them and lets them come late; and what becomes of answers.

use adjutant_core::command::{
    Answer, Command, IdempotencyKey, Request, Start, Sync, SyncAnswer, TaskView, Ticket,
};
use adjutant_core::decide::Verdict;
use adjutant_core::time::Timestamp;

use crate::bug::Bug;
use crate::step::{Dice, Fate};
use crate::world::World;

/// A request on its way, as its sender sent it.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) sent: Request,
    pub(crate) hearing: Hearing,
}

/// Whether the sender of a request hears its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hearing {
    Hears,
    /// After others.
    Late,
    /// Never.
    Deaf,
}

/// What is on its way and arrives later.
#[derive(Debug)]
pub(crate) enum Late {
    Request(Box<(usize, Message)>),
    Answer(Box<(Sync, SyncAnswer)>),
}

impl World {
    /// Sends something; the network does with it what it does.
    pub(crate) fn send(&mut self, request: Request, server: usize, fate: Fate, dice: &mut Dice) {
        let mut message = Message {
            sent: request,
            hearing: Hearing::Hears,
        };
        // A repeat that is only answered again is no sign of life: agents register without a key.
        let keyed = !matches!(message.sent.command, Command::Sync(_) | Command::Register(_));
        if keyed && dice.chance(30) {
            message.sent.idempotency = Some(IdempotencyKey {
                token: "client".into(),
                key: format!("key-{}", message.sent.ticket.0).into(),
                digest: [0; 32],
            });
        }
        match fate {
            Fate::Lost => return,
            Fate::Arrives => {}
            Fate::AnswerLost => message.hearing = Hearing::Deaf,
            Fate::AnswerLate => message.hearing = Hearing::Late,
            Fate::Twice => {
                self.tickets += 1;
                let mut again = message.clone();
                again.sent.ticket = Ticket(self.tickets);
                again.hearing = Hearing::Deaf;
                let other = (server + dice.below(2)) % self.servers.len();
                self.servers[other].inbox.push_back(again);
            }
            Fate::Late => {
                self.late.push(Late::Request(Box::new((server, message))));
                return;
            }
        }
        self.servers[server].inbox.push_back(message);
    }

    /// Tells the witness which numbers of syncs were taken, in the order in which they arrived.
    pub(crate) fn numbered(&self, messages: &[Message], answers: &[(Ticket, Verdict)]) {
        for message in messages {
            let Command::Sync(sync) = &message.sent.command else {
                continue;
            };
            let refused = answers
                .iter()
                .any(|(ticket, verdict)| *ticket == message.sent.ticket && verdict.is_err());
            if !refused {
                self.witness().numbered(sync);
            }
        }
    }

    pub(crate) fn heard(&self, message: &Message, verdict: &Verdict, now: Timestamp) {
        let agent = match &message.sent.command {
            Command::Sync(sync) => &sync.agent,
            Command::Register(agent) => &agent.id,
            _ => return,
        };
        // A wait that ends is not a new sign of life: it was noted when it began.
        let waited = matches!(&message.sent.command, Command::Sync(sync) if !sync.wait.is_zero());
        if verdict.is_ok() && !waited {
            self.witness().heard(agent, now);
        }
    }

    pub(crate) fn answer(&mut self, message: &Message, mut verdict: Verdict) {
        if self.setup.bug == Some(Bug::TakenSentAgain) {
            self.send_taken_again(message, &mut verdict);
        }
        self.witness().told(&message.sent, &verdict);
        let (Command::Sync(sync), Ok(Answer::Sync(answer))) = (&message.sent.command, verdict) else {
            return;
        };
        match message.hearing {
            Hearing::Hears => self.hear(sync, &answer),
            Hearing::Late => self.late.push(Late::Answer(Box::new((sync.clone(), *answer)))),
            Hearing::Deaf => {}
        }
    }

    fn hear(&mut self, sync: &Sync, answer: &SyncAnswer) {
        if let Some(mind) = self.minds.iter_mut().find(|mind| mind.id() == sync.agent) {
            mind.hear(sync, answer);
        }
    }

    /// Something that was late arrives.
    pub(crate) fn land(&mut self, dice: &mut Dice) {
        if self.late.is_empty() {
            return;
        }
        match self.late.swap_remove(dice.below(self.late.len())) {
            Late::Request(late) => {
                let (server, message) = *late;
                self.servers[server].inbox.push_back(message);
            }
            Late::Answer(late) => self.hear(&late.0, &late.1),
        }
    }

    fn send_taken_again(&self, message: &Message, verdict: &mut Verdict) {
        let (Command::Sync(sync), Ok(Answer::Sync(answer))) = (&message.sent.command, verdict) else {
            return;
        };
        let taken = self.witness().taken_by(&sync.agent);
        answer.start.extend(taken.map(|(task, attempt)| Start {
            view: TaskView {
                task,
                body: None,
                ending: None,
                lease_expires_at: None,
                waiting: None,
            },
            attempt,
            timeout: None,
        }));
    }
}

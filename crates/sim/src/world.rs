//! The world: servers of the real core and engine on one store, agents and clients around them, a network that loses
//! and repeats, and a clock that jumps.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use adjutant_core::command::{Command, Request, Ticket};
use adjutant_core::name::{AgentId, TaskId};
use adjutant_core::retention::Retention;
use adjutant_core::set::Settings;
use adjutant_core::time::{Span, Timestamp};
use adjutant_engine::turns::{NotTaken, Taken, Turns};
use adjutant_store::StoreError;
use adjutant_store::memory::{Fault, Memory};

use crate::bug::Bug;
use crate::clock::{Clock, Machine};
use crate::minds::{AGENTS, Mind};
use crate::network::{Late, Message};
use crate::step::Dice;
use crate::tap::Tap;
use crate::witness::{Moment, Witness};

/// The most messages of one turn.
const BATCH: usize = 6;
/// How often a server looks at the clock at least, and at everything where servers share a store.
const LOOK: Span = Span::from_secs(5);
/// Something to begin with: a Tuesday in November 2023, a few hours before midnight.
const START_MICROS: i64 = 1_700_000_000_000_000;

/// A sync that waits.
#[derive(Debug)]
struct Wait {
    agent: AgentId,
    until: Timestamp,
    server: usize,
    message: Message,
}

pub(crate) struct Server {
    pub(crate) turns: Turns<Tap>,
    pub(crate) inbox: VecDeque<Message>,
    clock: Clock,
    looked: Timestamp,
    passed: Timestamp,
}

/// How a world is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setup {
    /// How many servers share the store; one owns it alone.
    pub servers: usize,
    /// What is broken on purpose.
    pub bug: Option<Bug>,
}

/// Everything.
pub struct World {
    pub(crate) root: Memory,
    pub(crate) servers: Vec<Server>,
    pub(crate) witness: Arc<Mutex<Witness>>,
    pub(crate) settings: Settings,
    pub(crate) machine: Machine,
    pub(crate) setup: Setup,
    pub(crate) minds: Vec<Mind>,
    pub(crate) late: Vec<Late>,
    waits: BTreeMap<Ticket, Wait>,
    pub(crate) submitted: u32,
    pub(crate) tickets: u64,
    pub(crate) turns: u64,
}

impl World {
    /// Empty, with agents that have not registered.
    pub fn new(setup: Setup) -> Self {
        let alone = setup.servers == 1;
        let root = if alone { Memory::alone() } else { Memory::shared() };
        let settings = Settings::default();
        let mut world = Self {
            root,
            servers: Vec::new(),
            witness: Arc::new(Mutex::new(Witness::new(alone, settings.agent_ttl))),
            settings,
            machine: Machine::new(Timestamp::from_micros(START_MICROS)),
            setup,
            minds: (0..AGENTS).map(Mind::new).collect(),
            late: Vec::new(),
            waits: BTreeMap::new(),
            submitted: 0,
            tickets: 0,
            turns: 0,
        };
        for number in 0..setup.servers {
            let server = world.server(number, Timestamp::EPOCH);
            world.servers.push(server);
        }
        world
    }

    /// How many turns were taken.
    pub const fn turns(&self) -> u64 {
        self.turns
    }

    pub(crate) fn witness(&self) -> MutexGuard<'_, Witness> {
        self.witness.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new process.
    fn server(&self, number: usize, known: Timestamp) -> Server {
        let mut clock = Clock::new(self.machine, known);
        let now = clock.now(self.machine);
        let moment = Moment {
            now,
            server: number,
            sent: Arc::new([]),
        };
        let tap = Tap::new(
            self.root.another(),
            Arc::clone(&self.witness),
            self.setup.bug,
            moment,
        );
        let turns = Turns::new(tap, self.settings.clone(), now).expect("a store in memory can be read");
        clock.advance(self.machine, turns.newest());
        let now = clock.now(self.machine);
        self.witness().watched(number, now, true);
        Server {
            turns,
            inbox: VecDeque::new(),
            clock,
            looked: now,
            passed: Timestamp::EPOCH,
        }
    }

    /// The time as a server has it. Where servers share a store, it is the store that says what time it is.
    pub(crate) fn now(&mut self, server: usize) -> Timestamp {
        let clock = if self.setup.servers == 1 { server } else { 0 };
        self.servers[clock].clock.now(self.machine)
    }

    pub(crate) fn request(&mut self, actor: adjutant_core::access::Actor, command: Command) -> Request {
        self.tickets += 1;
        Request {
            actor,
            command,
            idempotency: None,
            ticket: Ticket(self.tickets),
        }
    }

    pub(crate) fn own(&mut self, command: Command) -> Request {
        self.request(adjutant_core::access::Actor::admin(), command)
    }

    pub(crate) fn task_id(&self, dice: &mut Dice) -> Option<TaskId> {
        let count = usize::try_from(self.submitted).unwrap_or(0);
        // Recent ones mostly: the others have ended.
        let number = if count > 20 && dice.chance(80) {
            count - 1 - dice.below(20)
        } else {
            dice.below(count)
        };
        (count > 0).then(|| format!("t{number}").into())
    }

    /// What is due on a server by itself, and a few of the messages that reached it.
    fn batch(&mut self, server: usize, now: Timestamp, look: bool) -> (Vec<Request>, Vec<Message>) {
        let mut own = Vec::new();
        let over: Vec<(Ticket, AgentId)> = self
            .waits
            .iter()
            .filter(|(_, wait)| wait.server == server && wait.until <= now)
            .map(|(ticket, wait)| (*ticket, wait.agent.clone()))
            .collect();
        for (ticket, agent) in over {
            own.push(self.own(Command::WaitOver(agent, ticket)));
        }
        let at = &mut self.servers[server];
        let due = at.turns.next_deadline(now) <= now || now.since(at.looked) >= LOOK || look;
        if due {
            at.looked = now;
        }
        let count = at.inbox.len().min(BATCH);
        let messages: Vec<Message> = at.inbox.drain(..count).collect();
        if due {
            own.push(self.own(Command::Tick));
        }
        (own, messages)
    }

    /// What a server is given of what clients sent, as the planted bug would have it.
    fn received(&self, sent: &Request) -> Request {
        let mut request = sent.clone();
        if self.setup.bug == Some(Bug::FencingIgnored) {
            let unfence = |completion: &mut adjutant_core::command::Completion| {
                completion.attempt = None;
                completion.agent = None;
            };
            match &mut request.command {
                Command::Complete { completions, .. } => completions.iter_mut().flatten().for_each(unfence),
                Command::Sync(sync) => sync.done.iter_mut().for_each(unfence),
                _ => return request,
            }
            request.actor = adjutant_core::access::Actor::admin();
        }
        request
    }

    /// A server takes a turn.
    pub(crate) fn turn(&mut self, server: usize) {
        self.turn_with(server, false);
    }

    pub(crate) fn turn_with(&mut self, server: usize, look: bool) {
        let now = self.now(server);
        let (own, messages) = self.batch(server, now, look);
        if own.is_empty() && messages.is_empty() {
            return;
        }
        let requests = self.begin(server, now, own, &messages);
        let taken = self.servers[server].turns.take(&requests, now);
        self.end(server, now, messages, taken);
    }

    /// Tells the tap what the turn is about; gives what the server sees.
    fn begin(
        &mut self,
        server: usize,
        now: Timestamp,
        own: Vec<Request>,
        messages: &[Message],
    ) -> Vec<Request> {
        let sent: Arc<[Request]> = messages.iter().map(|message| message.sent.clone()).collect();
        self.servers[server].turns.store_mut().moment = Moment { now, server, sent };
        let mut requests: Vec<Request> = messages
            .iter()
            .map(|message| self.received(&message.sent))
            .collect();
        requests.extend(own);
        requests
    }

    fn end(&mut self, server: usize, now: Timestamp, messages: Vec<Message>, taken: Result<Taken, NotTaken>) {
        match taken {
            Ok(taken) => self.taken(server, now, messages, taken),
            Err(NotTaken::Store(StoreError::Busy(_))) => {
                // The engine tries again; here another turn may come in between.
                for message in messages.into_iter().rev() {
                    self.servers[server].inbox.push_front(message);
                }
            }
            Err(NotTaken::Store(_)) => {}
            Err(NotTaken::Unknown(_)) => self.crash(server),
            Err(NotTaken::Bug(why)) => self.witness().note(Err(format!("a turn panicked: {why}"))),
        }
    }

    fn taken(&mut self, server: usize, now: Timestamp, messages: Vec<Message>, taken: Taken) {
        self.turns += 1;
        self.witness().watched(server, now, false);
        self.numbered(&messages, &taken.answers);
        let mut open: BTreeMap<Ticket, Message> = messages
            .into_iter()
            .map(|message| (message.sent.ticket, message))
            .collect();
        let pass = taken.pass;
        for (ticket, verdict) in taken.answers {
            let message = open
                .remove(&ticket)
                .or_else(|| self.waits.remove(&ticket).map(|wait| wait.message));
            if let Some(message) = message {
                self.heard(&message, &verdict, now);
                self.answer(&message, verdict);
            }
        }
        for (ticket, message) in open {
            let Command::Sync(sync) = &message.sent.command else {
                continue;
            };
            self.witness().heard(&sync.agent, now);
            let wait = Wait {
                agent: sync.agent.clone(),
                until: now + sync.wait,
                server,
                message,
            };
            self.waits.insert(ticket, wait);
        }
        if pass {
            self.pass(server);
        }
    }

    /// A server looks at everything once more.
    pub(crate) fn pass(&mut self, server: usize) {
        let now = self.now(server);
        let request = self.own(Command::Pass);
        self.begin(server, now, Vec::new(), &[]);
        self.servers[server].passed = now;
        let taken = self.servers[server].turns.take(&[request], now);
        // A pass calls for none.
        let taken = taken.map(|taken| Taken { pass: false, ..taken });
        self.end(server, now, Vec::new(), taken);
    }

    /// Time passes in steps that all servers see.
    pub(crate) fn wait(&mut self, seconds: u32) {
        let mut left = seconds;
        while left > 0 {
            let step = left.min(5);
            left -= step;
            self.machine.pass(Span::from_secs(step));
            for server in 0..self.servers.len() {
                self.turn(server);
                let now = self.now(server);
                if self.setup.servers > 1 && now.since(self.servers[server].passed) >= LOOK {
                    self.pass(server);
                }
            }
        }
    }

    /// Time passes that no server sees.
    pub(crate) fn sleep(&mut self, time: Span) {
        if self.setup.bug == Some(Bug::ReapedAfterSleep) {
            self.sleep_with_open_eyes(time);
        }
        self.machine.pass(time);
    }

    /// Counts the time of a sleep as if it had been watched.
    fn sleep_with_open_eyes(&mut self, time: Span) {
        for server in 0..self.servers.len() {
            let start = self.now(server);
            let end = start + time;
            self.witness().watched(server, end, true);
            let mut at = start;
            while at < end && at < start + Span::from_secs(120) {
                at = at + Span::from_secs(5);
                let request = self.own(Command::Tick);
                self.begin(server, at, Vec::new(), &[]);
                self.servers[server].turns.store_mut().unseen = true;
                let taken = self.servers[server].turns.take(&[request], at);
                self.servers[server].turns.store_mut().unseen = false;
                drop(taken);
            }
        }
    }

    /// A process dies, with everything that was not committed; another takes its place.
    pub(crate) fn crash(&mut self, server: usize) {
        self.servers[server].turns.store_mut().die();
        self.waits.retain(|_, wait| wait.server != server);
        let known = if self.setup.servers == 1 {
            Timestamp::EPOCH
        } else {
            self.now(server)
        };
        self.servers[server] = self.server(server, known);
    }

    /// One server is between load and commit while another takes a turn.
    pub(crate) fn overlap(&mut self, server: usize, crashes: bool) {
        let other = (server + 1) % self.servers.len();
        let now = self.now(server);
        let (own, messages) = self.batch(server, now, false);
        if other == server || (own.is_empty() && messages.is_empty()) {
            self.turn(server);
            return;
        }
        let requests = self.begin(server, now, own, &messages);
        let prepared = self.servers[server].turns.prepare(&requests, now);
        self.turn(other);
        match prepared {
            Ok(_) if crashes => self.crash(server),
            Ok(outcome) => {
                let taken = self.servers[server].turns.finish(outcome);
                self.end(server, now, messages, taken);
            }
            Err(error) => self.end(server, now, messages, Err(error)),
        }
    }

    /// What is over and not kept is forgotten.
    pub(crate) fn forget(&mut self, server: usize, dice: &mut Dice) {
        let retention = Retention {
            finished_age: dice.of(&[None, Some(Span::DAY)]),
            finished_count: dice.of(&[None, Some(0), Some(3)]),
            event_age: dice.of(&[None, Some(Span::HOUR)]),
            event_count: dice.of(&[None, Some(10)]),
        };
        let now = self.now(server);
        if let Err(NotTaken::Unknown(_)) = self.servers[server].turns.forget(&retention, now) {
            self.crash(server);
        }
    }

    /// Lets the next commit of a server go wrong.
    pub(crate) fn plant(&mut self, server: usize, dice: &mut Dice) {
        let faults = [Fault::Full, Fault::LostAfter, Fault::LostBefore];
        self.servers[server].turns.store_mut().fault = Some(dice.of(&faults));
    }
}

//! Steps: everything that may happen, drawn from a seed without a look at the world.
//!
//! A step names agents and tasks by small numbers that the world takes modulo what it has. So a run is a plain list of
//! steps, and a part of the list is a run as well: that is what makes shrinking simple.

use fastrand::Rng;

/// What becomes of a message on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It arrives, and its answer as well.
    Arrives,
    /// It never arrives.
    Lost,
    /// It arrives, but its answer does not.
    AnswerLost,
    /// It arrives, but its answer only after others.
    AnswerLate,
    /// It arrives twice, the second time perhaps at another server.
    Twice,
    /// It arrives some time later.
    Late,
}

/// What an agent says that is not so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Nothing.
    None,
    /// It leaves out something that it runs.
    Forgets,
    /// It says that it runs something that it does not.
    Boasts,
    /// It sends an old number again.
    Stale,
}

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// What.
    pub act: Act,
    /// What becomes of its message, if it sends one.
    pub fate: Fate,
    /// Which server it concerns.
    pub server: u8,
    /// Whether that server takes a turn right afterwards.
    pub turn: bool,
    /// Bits for whatever else is to be chosen.
    pub dice: u64,
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// A client submits a task.
    Submit,
    /// A client submits a few tasks at once, some depending on others.
    Batch,
    /// An operator or a client changes a task: cancel, retry, hold, and so on.
    Operate,
    /// An operator changes a limit.
    Limit,
    /// An operator starts a scope's periods anew.
    Reset,
    /// An operator drains, lifts or removes an agent.
    Govern,
    /// An agent registers; perhaps as a new process.
    Register {
        /// Whether its process is a new one that knows of nothing.
        restarts: bool,
    },
    /// An agent calls the roll.
    Sync {
        /// What it says that is not so.
        lie: Lie,
    },
    /// An agent proves that it lives, and no more.
    Heartbeat,
    /// An agent is done with something.
    Finish,
    /// Someone who was superseded or told to stop reports all the same.
    Haunt,
    /// An agent reports usage.
    Spend,
    /// An agent reports progress.
    Update,
    /// Someone takes a task by its id.
    Claim,
    /// A job that was dispatched elsewhere starts, spends or ends.
    External,
    /// A late message or answer arrives.
    Land,
    /// A server takes a turn.
    Turn,
    /// A server looks at everything once more.
    Pass,
    /// Time passes, in small steps that servers see.
    Wait,
    /// The machine sleeps: time passes that nobody sees.
    Sleep,
    /// The clock is set.
    SetClock,
    /// Time passes until just before the end of the hour or the day.
    AlmostMidnight,
    /// A server dies, and another process takes its place.
    Crash,
    /// The next commit goes wrong.
    Fault,
    /// A server is between load and commit while another takes a whole turn.
    Overlap,
    /// What is over and not kept is forgotten.
    Forget,
    /// Everything comes to rest, and nothing may wait that could start.
    Rest,
}

const ACTS: &[(u32, Act)] = &[
    (90, Act::Submit),
    (12, Act::Batch),
    (34, Act::Operate),
    (14, Act::Limit),
    (4, Act::Reset),
    (10, Act::Govern),
    (36, Act::Register { restarts: false }),
    (8, Act::Register { restarts: true }),
    (220, Act::Sync { lie: Lie::None }),
    (8, Act::Sync { lie: Lie::Forgets }),
    (6, Act::Sync { lie: Lie::Boasts }),
    (4, Act::Sync { lie: Lie::Stale }),
    (20, Act::Heartbeat),
    (150, Act::Finish),
    (24, Act::Haunt),
    (60, Act::Spend),
    (16, Act::Update),
    (18, Act::Claim),
    (10, Act::External),
    (40, Act::Land),
    (60, Act::Turn),
    (16, Act::Pass),
    (60, Act::Wait),
    (4, Act::Sleep),
    (3, Act::SetClock),
    (3, Act::AlmostMidnight),
    (6, Act::Crash),
    (6, Act::Fault),
    (24, Act::Overlap),
    (5, Act::Forget),
    (6, Act::Rest),
];

impl Step {
    /// Draws one.
    pub fn draw(rng: &mut Rng) -> Self {
        let total: u32 = ACTS.iter().map(|(weight, _)| weight).sum();
        let mut left = rng.u32(0..total);
        let mut act = Act::Turn;
        for (weight, candidate) in ACTS {
            if left < *weight {
                act = *candidate;
                break;
            }
            left -= weight;
        }
        Self {
            act,
            fate: match rng.u8(0..100) {
                0..74 => Fate::Arrives,
                74..79 => Fate::Lost,
                79..84 => Fate::AnswerLost,
                84..90 => Fate::AnswerLate,
                90..95 => Fate::Twice,
                _ => Fate::Late,
            },
            server: rng.u8(..),
            turn: rng.u8(0..10) < 7,
            dice: rng.u64(..),
        }
    }
}

/// Small choices from the bits of a step.
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new(bits: u64) -> Self {
        Self(bits)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        // A step of a linear congruential generator: the bits of a step last for as many choices as are made.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let high = usize::try_from(self.0 >> 33).unwrap_or(0);
        high % bound.max(1)
    }

    /// An amount of tokens below `bound`: a round one, so that limits are also met exactly.
    pub(crate) fn amount(&mut self, bound: usize) -> u64 {
        const ROUND: usize = 50;
        u64::try_from(self.below(bound.div_ceil(ROUND)) * ROUND).unwrap_or(0)
    }

    /// Whether something of this chance, in percent, happens.
    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of these.
    pub(crate) fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }
}

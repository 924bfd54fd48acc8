//! Planted bugs: what the program would do if one of its safeguards were missing. Switches of the simulator, there to
//! show that it finds what it is there to find.
//!
//! They are planted around the core, never in it: what a server receives, what its store gives it and what it writes is
//! bent as the bug would have it, while the witness sees what clients sent and what is really stored.

macro_rules! bugs {
    ($($(#[$doc:meta])* $bug:ident = $name:literal, $shared:literal;)*) => {
        /// A safeguard that is missing.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Bug {
            $($(#[$doc])* $bug,)*
        }

        impl Bug {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$bug,)*];

            /// The name on the command line.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$bug => $name,)* }
            }

            /// Whether it shows only where servers share a store.
            pub const fn needs_shared(self) -> bool {
                match self { $(Self::$bug => $shared,)* }
            }

            /// The bug with this name.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|bug| bug.name() == name)
            }
        }
    };
}

bugs! {
    /// The fencing token of a report is not looked at: it counts for whatever attempt is current.
    FencingIgnored = "fencing-ignored", false;
    /// The slot of an attempt is given back twice.
    SettledTwice = "settled-twice", false;
    /// A failed attempt gets back all of its tokens instead of half.
    RefundTooLarge = "refund-too-large", false;
    /// Who holds a lock is not looked at.
    LockIgnored = "lock-ignored", true;
    /// Tasks whose backoff has ended are not woken.
    WakeUpForgotten = "wake-up-forgotten", false;
    /// The time that a server slept counts as silence of its agents.
    ReapedAfterSleep = "reaped-after-sleep", false;
    /// An attempt that its agent has is sent again.
    TakenSentAgain = "taken-sent-again", false;
    /// The first booking of a day starts its counter from nothing, though another server has started it.
    CounterStartedTwice = "counter-started-twice", true;
    /// Now and then a commit that was acknowledged is not there.
    CommitLost = "commit-lost", false;
    /// What a task depends on is forgotten when it is stored.
    DependencyIgnored = "dependency-ignored", true;
    /// Limits of agents are not loaded.
    LimitIgnored = "limit-ignored", true;
    /// Rows are read without being locked: now and then an old version is seen.
    StaleRead = "stale-read", true;
}

//! What happens on one server, as agents that speak with another one see it; and what it costs: every load of a turn is
//! a journey to the database, so their number must not grow with what there is to look at.

use adjutant_core::command::{Answer, Command, NewAgent, NewTask, PolicyChange, Sync};
use adjutant_core::limit::{Limit, Scope, Window};
use adjutant_core::name::AgentId;
use adjutant_core::rejection::Slug;
use adjutant_core::time::{Span, Timestamp};
use adjutant_postgres_fixture::Database;
use adjutant_store::Store;
use adjutant_store::memory::Memory;
use adjutant_store::postgres::Postgres;

use crate::play::{Play, by, complete, register, submit, sync};

/// Loads that a turn may take, whatever it looks at.
const FEW: usize = 8;

/// Has the same happen in memory and on PostgreSQL, each with two servers.
fn on_two_servers(happen: &impl Happen) {
    let first = Memory::shared();
    let second = first.another();
    happen.between(
        &mut Play::on(first, Timestamp::from_micros(1_000_000_000_000)),
        &mut Play::on(second, Timestamp::from_micros(1_000_000_000_000)),
    );
    let Some(database) = adjutant_postgres_fixture::shared().map(|server| server.database()) else {
        return;
    };
    let open = |database: &Database| {
        let store = Postgres::open(database.url()).expect("the database is opened");
        let now = store.now();
        Play::on(store, now)
    };
    happen.between(&mut open(&database), &mut open(&database));
}

/// A story between two servers, on any store.
trait Happen {
    fn between<S: Store>(&self, here: &mut Play<S>, there: &mut Play<S>);
}

macro_rules! between_servers {
    ($(#[$meta:meta])* $name:ident, |$here:ident, $there:ident| $story:block) => {
        $(#[$meta])*
        #[test]
        fn $name() {
            struct Story;
            impl Happen for Story {
                fn between<S: Store>(&self, $here: &mut Play<S>, $there: &mut Play<S>) $story
            }
            on_two_servers(&Story);
        }
    };
}

/// A sync of a worker that has nothing and waits.
fn wait(agent: &str, session: Option<&str>) -> Command {
    let Command::Sync(idle) = sync(agent, &[]) else {
        panic!("a sync is a sync")
    };
    Command::Sync(Sync {
        session: session.map(Into::into),
        n: session.map(|_| 1),
        wait: Span::from_secs(20),
        ..idle
    })
}

fn register_as(id: &str, session: &str) -> Command {
    let Command::Register(agent) = register(id, 1) else {
        panic!("a registration is one")
    };
    Command::Register(NewAgent {
        session: Some(session.into()),
        ..agent
    })
}

fn news(agent: &str) -> Command {
    Command::News(Some([AgentId::from(agent)].into()))
}

between_servers!(
    a_worker_whose_place_another_one_took_elsewhere_is_given_nothing,
    |here, there| {
        here.done(register_as("worker", "old"));
        assert!(here.say(wait("worker", Some("old"))).is_none(), "it waits");
        there.done(register_as("worker", "new"));
        there.done(submit("job", |task| by(task, "worker")));
        there.done(Command::Pass);
        here.done(news("worker"));
        let [Err(refused)] = here.late.as_slice() else {
            panic!("it is answered with a no: {:?}", here.late);
        };
        assert_eq!(refused.slug, Slug::Superseded);
    }
);

between_servers!(a_worker_that_was_removed_elsewhere_is_told, |here, there| {
    here.done(register("worker", 1));
    assert!(here.say(wait("worker", None)).is_none(), "it waits");
    there.done(Command::Deregister("worker".into()));
    here.done(Command::News(None));
    let [Err(refused)] = here.late.as_slice() else {
        panic!("it is answered with a no: {:?}", here.late);
    };
    assert_eq!(refused.slug, Slug::AgentNotFound);
});

between_servers!(
    what_somebody_claimed_before_it_registered_takes_up_its_places,
    |here, there| {
        for id in ["one", "two"] {
            here.done(submit(id, |_| {}));
            here.done(Command::Claim {
                id: id.into(),
                agent: Some("worker".into()),
            });
        }
        there.done(register("worker", 2));
        there.done(submit("three", |task| by(task, "worker")));
        there.done(Command::Pass);
        let Answer::Agent(agent) = here.done(Command::GetAgent("worker".into())) else {
            panic!("an agent is shown");
        };
        assert_eq!(agent.attempts.len(), 2, "it is full: {:?}", agent.attempts);
        here.done(complete("one", "worker", true));
        here.done(Command::Pass);
        let Answer::Agent(agent) = here.done(Command::GetAgent("worker".into())) else {
            panic!("an agent is shown");
        };
        assert_eq!(agent.attempts.len(), 2, "the place that became free is taken");
    }
);

between_servers!(
    the_silence_of_many_agents_is_dealt_with_in_few_loads,
    |here, _there| {
        for number in 0..40 {
            let id = format!("worker-{number}");
            here.done(register(&id, 1));
            here.done(submit(&format!("job-{number}"), |task| by(task, &id)));
        }
        here.done(Command::Pass);
        let mut most = 0;
        // The server watches without a gap, and nobody says anything.
        for _ in 0..6 {
            here.loads = 0;
            here.skip(Span::from_secs(14));
            most = most.max(here.loads);
        }
        assert!(most <= FEW, "{most} loads for one look");
        let everybody = Command::ListAgents {
            status: None,
            capabilities: Vec::new(),
        };
        let Answer::Agents(agents) = here.done(everybody) else {
            panic!("agents are shown");
        };
        assert_eq!(agents.iter().filter(|agent| agent.offline).count(), 40);
    }
);

between_servers!(
    what_many_locks_keep_waiting_is_looked_at_in_few_loads,
    |here, there| {
        let id = |kind: &str, number: usize| format!("{kind}-{number}");
        let locked = |name: String, worker: &'static str, number: usize| {
            submit(&name, |task| {
                by(task, worker);
                task.locks = [format!("lock-{number}").as_str().into()].into();
            })
        };
        here.done(register("first", 30));
        here.done(register("second", 30));
        for number in 0..30 {
            here.done(locked(id("runs", number), "first", number));
        }
        here.done(Command::Pass);
        let mut waiting = Vec::new();
        for number in 0..30 {
            let Answer::Task(view) = here.done(locked(id("waits", number), "second", number)) else {
                panic!("a task is shown");
            };
            waiting.push(view.task);
        }
        there.loads = 0;
        there.done(Command::Pass);
        assert!(there.loads <= FEW, "{} loads for a pass", there.loads);
        there.loads = 0;
        let Answer::Views(views) = there.done(Command::View(waiting)) else {
            panic!("tasks are shown");
        };
        assert_eq!(views.iter().filter(|view| view.waiting.is_some()).count(), 30);
        assert!(there.loads <= FEW, "{} loads to show them", there.loads);
    }
);

between_servers!(
    a_search_goes_on_where_it_was_without_what_it_has_passed_over,
    |here, there| {
        let allow = |tokens| {
            Command::SetPolicy(
                Scope::Agent("worker".into()),
                PolicyChange::Limits(vec![Limit {
                    tokens: Some(tokens),
                    ..Limit::none(Window::Day)
                }]),
            )
        };
        there.done(register("worker", 1));
        there.done(allow(40_000));
        let of = |number: usize| {
            let mut task = NewTask::new(format!("job-{number}").as_str(), "a job");
            by(&mut task, "worker");
            task.estimated_tokens = if number == 600 { 45_000 } else { 50_000 };
            Ok(task)
        };
        here.done(Command::Submit {
            tasks: (0..=600).map(of).collect(),
            batch: true,
        });
        // Each is followed by the next one at once.
        let passes = |here: &mut Play<S>| {
            let mut most = 0;
            for _ in 0..60 {
                here.given = 0;
                here.done(Command::Pass);
                most = most.max(here.given);
            }
            most
        };
        let held = |here: &mut Play<S>| match here.done(Command::GetAgent("worker".into())) {
            Answer::Agent(agent) => agent.attempts.len(),
            other => panic!("an agent is shown: {other:?}"),
        };
        passes(here);
        assert_eq!(held(here), 0, "nothing fits");
        there.done(allow(48_000));
        let most = passes(here);
        assert_eq!(held(here), 1, "what fits was found");
        assert!(most <= 300, "{most} tasks were loaded for one pass");
    }
);

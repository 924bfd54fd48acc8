//! How long a submission takes to be in the hands of an agent that waits, one at a time, on a server that has
//! nothing else to do.

use std::io;
use std::time::{Duration, Instant};

use super::{LABEL, disk};
use crate::arguments::Arguments;
use crate::figures::{Figures, Times};
use crate::party::{Agent, submit, task};
use crate::server::Server;

/// Long enough that the sync has arrived and waits, and the server rests.
const REST: Duration = Duration::from_millis(2);
/// The first ones fill caches.
const UNCOUNTED: usize = 50;

pub(super) async fn run(arguments: &Arguments, figures: &mut Figures) -> io::Result<()> {
    disk::run(arguments, figures)?;
    let server = Server::start(arguments, &[]).await?;
    let mut agent = Agent::register(&server, "agent".into(), LABEL).await?;
    let mut submitter = server.connect().await?;
    let task = task(LABEL);
    let (mut pickup, mut answered, mut completed) = (Times::default(), Times::default(), Times::default());
    for number in 0..arguments.samples + UNCOUNTED {
        let submission = async {
            tokio::time::sleep(REST).await;
            let begun = Instant::now();
            submit(&mut submitter, &task).await?;
            io::Result::Ok((begun, begun.elapsed()))
        };
        let wait = async {
            let job = agent.sync(None).await?;
            io::Result::Ok((job, Instant::now()))
        };
        let ((job, arrived), (begun, answer)) = tokio::try_join!(wait, submission)?;
        let completion = Instant::now();
        agent.complete(&job).await?;
        if number >= UNCOUNTED {
            pickup.push(arrived - begun);
            answered.push(answer);
            completed.push(completion.elapsed());
        }
    }
    figures.put_times("latency.submit_to_agent", &mut pickup);
    figures.put_times("latency.submit_answered", &mut answered);
    figures.put_times("latency.complete_answered", &mut completed);
    server.end().await
}

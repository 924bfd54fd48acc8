//! Submissions on many connections, without an agent: what the way into the store takes.

use std::io;
use std::time::Instant;

use tokio::task::JoinSet;

use super::{LABEL, Span, crowd, put_rate};
use crate::arguments::Arguments;
use crate::figures::{Figures, Times};
use crate::http::Connection;
use crate::party::{submit, task};
use crate::server::Server;

pub(super) async fn run(arguments: &Arguments, figures: &mut Figures) -> io::Result<()> {
    for (name, connections) in [("submit_alone", 1), ("submit", arguments.connections)] {
        let server = Server::start(arguments, &[]).await?;
        let mut open = Vec::with_capacity(connections);
        for _ in 0..connections {
            open.push(server.connect().await?);
        }
        let span = Span::after_warm_up(arguments.length);
        let mut loops = JoinSet::new();
        for connection in open {
            loops.spawn(submit_on(connection, span));
        }
        let mut times = Times::default();
        let cpu = crowd(loops, span, &server, |one| times.append(one)).await?;
        put_rate(figures, name, &times, arguments.length, &cpu);
        figures.put_times(name, &mut times);
        server.end().await?;
    }
    Ok(())
}

async fn submit_on(mut connection: Connection, span: Span) -> io::Result<Times> {
    let task = task(LABEL);
    let mut times = Times::default();
    while !span.is_over() {
        let begun = Instant::now();
        submit(&mut connection, &task).await?;
        let ended = Instant::now();
        if span.covers(begun, ended) {
            times.push(ended - begun);
        }
    }
    Ok(times)
}

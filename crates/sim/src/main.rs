//! `adjutant-sim`: runs seeds until a number of turns or a time is reached, and shrinks what fails.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use adjutant_sim::bug::Bug;
use adjutant_sim::run::{Report, Script};
use adjutant_sim::shrink::{replay, shrink};
use clap::Parser;

/// The most runs that shrinking one failure takes.
const SHRINKING: usize = 3_000;

/// Simulates fleets, servers and everything that can go wrong between them, and checks every transaction.
///
/// Example: adjutant-sim --hours 8
#[derive(Debug, Parser)]
#[command(name = "adjutant-sim", version)]
struct Arguments {
    /// The first seed; a fresh one without it.
    #[arg(long)]
    seed: Option<u64>,
    /// How many steps each seed takes.
    #[arg(long, default_value_t = 400)]
    steps: usize,
    /// Only these steps of the seed, such as 3-9,17: replays a shrunk failure.
    #[arg(long, requires = "seed")]
    only: Option<String>,
    /// Go on for so many seeds.
    #[arg(long)]
    seeds: Option<u64>,
    /// Go on for so many turns.
    #[arg(long)]
    turns: Option<u64>,
    /// Go on for so many seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// Go on for so many hours.
    #[arg(long)]
    hours: Option<u64>,
    /// Break a safeguard on purpose; `list` names them.
    #[arg(long)]
    bug: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool, String> {
    let bug = match arguments.bug.as_deref() {
        None => None,
        Some("list") => {
            for bug in Bug::ALL {
                println!("{}", bug.name());
            }
            return Ok(true);
        }
        Some(name) => Some(
            Bug::from_name(name)
                .ok_or_else(|| format!("--bug: there is no `{name}`; `--bug list` names all"))?,
        ),
    };
    let first = arguments.seed.unwrap_or_else(|| fastrand::u64(..));
    let script = |seed| Script {
        seed,
        steps: arguments.steps,
        bug,
    };
    if let Some(only) = &arguments.only {
        let kept = numbers(only)?;
        let steps = script(first).draw();
        for number in &kept {
            let step = steps
                .get(*number)
                .ok_or_else(|| format!("--only: there is no step {number}"))?;
            println!("{number:>6} {step:?}");
        }
        let report = replay(&script(first), &steps, &kept);
        return Ok(tell(&report));
    }
    // A turn that panics is a finding, told once and not at every step of shrinking it.
    std::panic::set_hook(Box::new(|_| {}));
    let until = Limits {
        seeds: arguments.seeds.or((arguments.turns.is_none()
            && arguments.seconds.is_none()
            && arguments.hours.is_none())
        .then_some(1)),
        turns: arguments.turns,
        time: arguments
            .seconds
            .or(arguments.hours.map(|hours| hours * 3_600))
            .map(Duration::from_secs),
    };
    Ok(go(first, &until, script))
}

struct Limits {
    seeds: Option<u64>,
    turns: Option<u64>,
    time: Option<Duration>,
}

fn go(first: u64, until: &Limits, script: impl Fn(u64) -> Script) -> bool {
    let started = Instant::now();
    let (mut turns, mut commits, mut forgotten, mut seeds) = (0, 0, 0, 0);
    let mut seed = first;
    loop {
        let report = script(seed).run();
        turns += report.turns;
        commits += report.commits;
        forgotten += report.forgotten;
        seeds += 1;
        if report.violation.is_some() {
            println!(
                "seed {seed} failed after {:.1} s",
                started.elapsed().as_secs_f64()
            );
            tell(&report);
            let shrunk = shrink(&script(seed), report, SHRINKING);
            println!("shrunk; steps left: {}", shrunk.kept.len());
            tell(&shrunk.report);
            let script = script(seed);
            let bug = script
                .bug
                .map(|bug| format!(" --bug {}", bug.name()))
                .unwrap_or_default();
            println!(
                "replay: adjutant-sim --seed {seed} --steps {}{bug} --only {}",
                script.steps,
                ranges(&shrunk.kept)
            );
            return false;
        }
        let over = until.seeds.is_some_and(|most| seeds >= most)
            || until.turns.is_some_and(|most| turns >= most)
            || until.time.is_some_and(|most| started.elapsed() >= most);
        if over {
            break;
        }
        seed = seed.wrapping_add(1);
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "seeds {first}..={seed}: {seeds} runs, {turns} turns, {commits} transactions, {forgotten} tasks forgotten in {seconds:.1} s ({:.0} turns/s); no violation",
        f64::from(u32::try_from(turns).unwrap_or(u32::MAX)) / seconds
    );
    true
}

fn tell(report: &Report) -> bool {
    match &report.violation {
        None => {
            println!("no violation in {} turns", report.turns);
            true
        }
        Some((step, what)) => {
            match step {
                Some(step) => println!("step {step}: {what}"),
                None => println!("at the end: {what}"),
            }
            false
        }
    }
}

/// Numbers such as `3-9,17`.
fn numbers(text: &str) -> Result<Vec<usize>, String> {
    let number = |text: &str| -> Result<usize, String> {
        text.parse()
            .map_err(|_| format!("--only: `{text}` is not a number"))
    };
    let mut all = Vec::new();
    for part in text.split(',') {
        match part.split_once('-') {
            Some((first, last)) => all.extend(number(first)?..=number(last)?),
            None => all.push(number(part)?),
        }
    }
    Ok(all)
}

/// The other way round.
fn ranges(numbers: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for number in numbers {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => parts.push((*number, *number)),
        }
    }
    let parts: Vec<String> = parts
        .into_iter()
        .map(|(first, last)| {
            if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            }
        })
        .collect();
    parts.join(",")
}

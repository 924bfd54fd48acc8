//! How the command line of an agent is called without a person: the user's own command, completed.

use adjutant_core::money::Money;
use adjutant_wire::Task;

use super::{AdapterKind, Extras};
use crate::template::MAX_VALUE_BYTES;

/// How a command line is called.
pub(crate) struct Call {
    /// The command of the program that does a task, where it has commands; by its first name unless the user gave it.
    pub(crate) subcommand: &'static [&'static str],
    /// What makes it work without a person and print what can be read.
    pub(crate) flags: &'static [Flag],
    /// How it gets its prompt.
    pub(crate) prompt: Prompt,
    /// Flags by which a user says the prompt, or from where it comes.
    pub(crate) prompt_flags: &'static [&'static str],
    /// Words after which one that is no flag is the prompt.
    pub(crate) prompt_after: &'static [&'static str],
    /// How it goes on with a session.
    pub(crate) resume: Resume,
    /// Flags by which a user says which session it goes on with.
    pub(crate) session_flags: &'static [&'static str],
    /// The flag for what it may cost, in dollars.
    pub(crate) budget: Option<&'static str>,
}

/// A flag that is added when the user gave none of its names.
pub(crate) struct Flag {
    /// The first is added.
    pub(crate) names: &'static [&'static str],
    /// Its value.
    pub(crate) value: Option<&'static str>,
    /// Other values that can be read as well.
    pub(crate) also: &'static [&'static str],
    /// It is not wanted where the user gave another flag another value than this.
    pub(crate) only_with: Option<(&'static str, &'static str)>,
}

impl Flag {
    /// A flag with a value; the others can be read as well.
    pub(crate) const fn value(
        names: &'static [&'static str],
        value: &'static str,
        also: &'static [&'static str],
    ) -> Self {
        Self {
            names,
            value: Some(value),
            also,
            only_with: None,
        }
    }

    /// Whether it has to be added to what the user wrote.
    fn is_missing(&self, written: &[String]) -> bool {
        let is_wanted = self
            .only_with
            .is_none_or(|(other, value)| value_of(written, &[other]).is_none_or(|given| given == value));
        is_wanted && !has(written, self.names)
    }

    /// A flag without a value.
    pub(crate) const fn switch(names: &'static [&'static str]) -> Self {
        Self {
            names,
            value: None,
            also: &[],
            only_with: None,
        }
    }
}

/// How a program gets its prompt. None of these can make an option of it, and stdin takes one of any length.
pub(crate) enum Prompt {
    /// On stdin, after these words that say so.
    Stdin(&'static [&'static str]),
    /// As the last argument, after `--`.
    Last,
    /// As the value of this flag, in one argument with it.
    Joined(&'static str),
    /// As the argument after this flag.
    After(&'static str),
}

/// How a program goes on with a session.
pub(crate) enum Resume {
    /// It cannot, or what it prints does not tell the session.
    No,
    /// By a flag.
    Flag(&'static str),
    /// By these words and the session, before all other arguments.
    First(&'static [&'static str]),
    /// By this word and the session, before the prompt.
    Word(&'static str),
}

/// A command line that is complete.
pub(super) struct Composed {
    pub(super) arguments: Vec<String>,
    /// The prompt, where stdin brings it.
    pub(super) stdin: Option<String>,
    /// Whether it goes on with a session.
    pub(super) resumes: bool,
}

impl Call {
    /// Why what is printed could not be read, if the user asked for such a form.
    pub(super) fn objection(&self, kind: AdapterKind, command: &[String]) -> Option<String> {
        let own = options(command);
        self.flags.iter().find_map(|flag| {
            let wanted = flag.value?;
            let given = value_of(own, flag.names)?;
            (given != wanted && !flag.also.contains(&given)).then(|| {
                format!(
                    "the adapter {kind} cannot read `{} {given}`: leave it out, or use the adapter plain",
                    flag.names[0]
                )
            })
        })
    }

    /// Whether the user's command says the prompt itself.
    pub(super) fn says_prompt(&self, command: &[String]) -> bool {
        let own = options(command);
        let after_dashes = command.len() > own.len() + 1;
        let bare = own.windows(2).any(|pair| {
            self.prompt_after.contains(&pair[0].as_str())
                && !pair[1].starts_with('-')
                && !self.own_words().any(|word| word == pair[1])
        });
        after_dashes || bare || has(own, self.prompt_flags)
    }

    /// Whether it takes a budget that the user did not set.
    pub(super) fn takes_budget(&self, command: &[String]) -> bool {
        self.budget.is_some_and(|flag| !has(options(command), &[flag]))
    }

    /// Words that are commands of the program, and no prompt.
    fn own_words(&self) -> impl Iterator<Item = &'static str> {
        let resume = match self.resume {
            Resume::First(words) => words,
            Resume::Word(ref word) => std::slice::from_ref(word),
            Resume::No | Resume::Flag(_) => &[],
        };
        self.subcommand.iter().chain(resume).copied()
    }

    /// Completes the user's arguments: `own` is `command` with its placeholders replaced.
    ///
    /// # Errors
    /// Why the prompt cannot be passed on.
    pub(super) fn compose(
        &self,
        own: Vec<String>,
        command: &[String],
        says_prompt: bool,
        task: &Task,
        extras: Extras<'_>,
    ) -> Result<Composed, String> {
        let written = options(command);
        let mut arguments = own;
        let tail = arguments.split_off(written.len());
        if let Some(first) = self.subcommand.first()
            && !written
                .iter()
                .any(|word| self.subcommand.contains(&word.as_str()))
        {
            arguments.insert(leading(written), (*first).to_owned());
        }
        for flag in self.flags.iter().filter(|flag| flag.is_missing(written)) {
            arguments.push(flag.names[0].to_owned());
            arguments.extend(flag.value.map(str::to_owned));
        }
        if let (Some(flag), Some(budget)) = (self.budget, extras.budget)
            && !has(written, &[flag])
        {
            arguments.extend([flag.to_owned(), dollars(budget)]);
        }
        let session = extras.session.filter(|_| self.may_resume(written));
        let has_tail = tail.len() > 1;
        if let Some(session) = session {
            self.resume(
                &mut arguments,
                leading(written),
                &session.id,
                says_prompt && !has_tail,
            );
        }
        let mut composed = Composed {
            arguments,
            stdin: None,
            resumes: session.is_some(),
        };
        if says_prompt {
            composed.arguments.extend(tail);
        } else {
            self.add_prompt(&mut composed, task)?;
        }
        Ok(composed)
    }

    fn may_resume(&self, written: &[String]) -> bool {
        let says_words = match self.resume {
            Resume::No => return false,
            Resume::Flag(_) => false,
            Resume::First(words) => written.iter().any(|word| words.contains(&word.as_str())),
            Resume::Word(resume) => written.iter().any(|word| word == resume),
        };
        !says_words && !has(written, self.session_flags)
    }

    /// `bare` says that the prompt is somewhere among the arguments.
    fn resume(&self, arguments: &mut Vec<String>, leading: usize, session: &str, bare: bool) {
        match self.resume {
            Resume::No => {}
            Resume::Flag(flag) => arguments.extend([flag.to_owned(), session.to_owned()]),
            Resume::First(words) => {
                let words = words.iter().map(|&word| word.to_owned());
                let all: Vec<String> = words.chain([session.to_owned()]).collect();
                arguments.splice(leading..leading, all);
            }
            Resume::Word(word) => {
                // Where the user's prompt stands is not known then, but it comes after the command.
                let subcommand = arguments
                    .iter()
                    .position(|argument| self.subcommand.contains(&argument.as_str()));
                let at = subcommand.filter(|_| bare).map_or(arguments.len(), |at| at + 1);
                arguments.splice(at..at, [word.to_owned(), session.to_owned()]);
            }
        }
    }

    fn add_prompt(&self, composed: &mut Composed, task: &Task) -> Result<(), String> {
        let prompt = prompt(task, composed.resumes);
        if !matches!(self.prompt, Prompt::Stdin(_)) {
            if prompt.len() > MAX_VALUE_BYTES {
                return Err(format!(
                    "title and description have {} bytes, more than the {MAX_VALUE_BYTES} that fit on a command line",
                    prompt.len()
                ));
            }
            if prompt.contains('\0') {
                return Err("title or description contain NUL, which no argument can".to_owned());
            }
        }
        let arguments = &mut composed.arguments;
        match self.prompt {
            Prompt::Stdin(words) => {
                arguments.extend(words.iter().map(|&word| word.to_owned()));
                composed.stdin = Some(prompt);
            }
            Prompt::Last => arguments.extend(["--".to_owned(), prompt]),
            Prompt::Joined(flag) => arguments.push(format!("{flag}={prompt}")),
            Prompt::After(flag) => arguments.extend([flag.to_owned(), prompt]),
        }
        Ok(())
    }
}

/// The arguments before a literal `--`.
fn options(command: &[String]) -> &[String] {
    let end = command.iter().position(|argument| argument == "--");
    &command[..end.unwrap_or(command.len())]
}

/// How many words stand before the first flag: the program is called by another one, such as `npx` or a shell.
fn leading(arguments: &[String]) -> usize {
    let first_flag = arguments.iter().position(|argument| argument.starts_with('-'));
    first_flag.unwrap_or(arguments.len())
}

fn has(arguments: &[String], names: &[&str]) -> bool {
    value_or_presence(arguments, names).is_some()
}

/// Where one of these flags stands, and what is joined to it.
fn value_or_presence<'a>(arguments: &'a [String], names: &[&str]) -> Option<(usize, Option<&'a str>)> {
    arguments.iter().enumerate().find_map(|(at, argument)| {
        names.iter().find_map(|name| {
            let rest = argument.strip_prefix(name)?;
            match rest.strip_prefix('=') {
                Some(value) => Some((at, Some(value))),
                None => rest.is_empty().then_some((at, None)),
            }
        })
    })
}

fn value_of<'a>(arguments: &'a [String], names: &[&str]) -> Option<&'a str> {
    let (at, joined) = value_or_presence(arguments, names)?;
    joined.or_else(|| arguments.get(at + 1).map(String::as_str))
}

/// What an agent is asked to do. It never begins with `-`, so that it is no option wherever it stands.
fn prompt(task: &Task, resumes: bool) -> String {
    let (title, description) = (task.title.trim(), task.description.trim());
    let mut text = String::new();
    if resumes {
        let why = task.fail_reason.as_deref().map_or("", str::trim);
        text += match why {
            "" => "Your last attempt at this task was cut short.",
            _ => "Your last attempt at this task failed: ",
        };
        text += why;
        text += "\nGo on from where it stands, and finish it.\n\n";
    } else if title.starts_with('-') {
        text += "Task: ";
    }
    text += title;
    if !description.is_empty() && description != title {
        text += "\n\n";
        text += description;
    }
    text
}

/// Dollars with as many decimals as it takes.
fn dollars(money: Money) -> String {
    let nanos = money.or_zero().as_nanos();
    let text = format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
    let short = text.trim_end_matches('0');
    let decimals = short.len() - short.find('.').unwrap_or(short.len());
    // At least cents: what people and programs expect of an amount.
    if decimals < 3 {
        text[..text.len() - 7].to_owned()
    } else {
        short.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_are_exact_and_have_cents() {
        for (nanos, text) in [
            (0, "0.00"),
            (1, "0.000000001"),
            (500_000_000, "0.50"),
            (1_000_000_000, "1.00"),
            (12_345_000_000, "12.345"),
            (-5, "0.00"),
        ] {
            assert_eq!(dollars(Money::from_nanos(nanos)), text);
        }
    }

    #[test]
    fn flags_are_found_in_either_form_and_not_by_their_start() {
        let arguments = ["--model=x", "--output-formats", "-p", "--n", "v"].map(str::to_owned);
        assert_eq!(value_of(&arguments, &["-m", "--model"]), Some("x"));
        assert_eq!(value_of(&arguments, &["--n"]), Some("v"));
        assert!(!has(&arguments, &["--output-format"]));
        assert!(has(&arguments, &["--print", "-p"]));
    }
}

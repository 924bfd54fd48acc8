//! The environment of a command: the worker's own without what is the worker's alone.

use std::ffi::OsString;

use adjutant_wire::Start;

/// Everything with this prefix configures adjutant itself: tokens, a store with its password, addresses.
const OWN_PREFIX: &str = "ADJUTANT_";

/// What the names of its own variables end with that hold a token.
const TOKEN_SUFFIX: &str = "TOKEN";
/// A token of at least this length is found inside of other text as well, such as a header or an address; a shorter one
/// is no token but a test's or a person's word, which is part of many things.
const MIN_TOKEN_BYTES: usize = 16;

/// What the commands of one worker see of their environment.
#[derive(Clone, Debug)]
pub(crate) struct Environment {
    /// The address of the server.
    pub(crate) url: String,
    /// The worker's own token: a variable that has it in its value is withheld whatever its name.
    pub(crate) secret: Option<String>,
    /// What the configuration adds.
    pub(crate) added: Vec<(String, String)>,
}

impl Environment {
    /// The whole environment of the command that does this attempt.
    pub(crate) fn of(&self, start: &Start) -> Vec<(OsString, OsString)> {
        self.build(std::env::vars_os(), start)
    }

    fn build(
        &self,
        inherited: impl Iterator<Item = (OsString, OsString)>,
        start: &Start,
    ) -> Vec<(OsString, OsString)> {
        let (own, mut variables): (Vec<_>, Vec<_>) =
            inherited.partition(|(name, _)| name.as_encoded_bytes().starts_with(OWN_PREFIX.as_bytes()));
        let tokens = own
            .iter()
            .filter(|(name, _)| name.as_encoded_bytes().ends_with(TOKEN_SUFFIX.as_bytes()))
            .map(|(_, value)| value.as_encoded_bytes());
        let secrets: Vec<&[u8]> = tokens
            .chain(self.secret.as_ref().map(String::as_bytes))
            .filter(|secret| !secret.is_empty())
            .collect();
        variables.retain(|(_, value): &(OsString, OsString)| {
            !secrets
                .iter()
                .any(|secret| tells(value.as_encoded_bytes(), secret))
        });
        let mut set = |name: &str, value: &str| variables.push((name.into(), value.into()));
        for (name, value) in &self.added {
            set(name, value);
        }
        set("ADJUTANT_TASK_ID", &start.task.id);
        set("ADJUTANT_ATTEMPT", &start.attempt.to_string());
        set("ADJUTANT_URL", &self.url);
        if let Some(token) = &start.token {
            set("ADJUTANT_TOKEN", token);
        }
        variables
    }
}

/// Whether a value gives a secret away.
fn tells(value: &[u8], secret: &[u8]) -> bool {
    let inside = || value.windows(secret.len()).any(|part| part == secret);
    value == secret || (secret.len() >= MIN_TOKEN_BYTES && inside())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_sees_the_token_of_its_attempt_and_no_other() {
        let environment = Environment {
            url: "http://x".into(),
            secret: Some("adj_mine-and-nobody-else's".into()),
            added: vec![("A".into(), "added".into())],
        };
        let mut start: Start = serde_json::from_str(
            r#"{"task":{"id":"t","title":"t","status":"in_progress"},"attempt":2,"lease_expires_at":"2026-11-24T10:00:00Z","token":"its"}"#,
        )
        .unwrap();
        let inherited = [
            ("PATH", "/bin"),
            ("ADJUTANT_TOKEN", "adj_mine-and-nobody-else's"),
            ("ADJUTANT_ADMIN_TOKEN", "the token of the admin"),
            ("ALIAS", "the token of the admin"),
            ("ADJUTANT_STORE", "postgres://user:password@host"),
            ("OTHER_NAME", "adj_mine-and-nobody-else's"),
            ("HEADER", "Authorization: Bearer adj_mine-and-nobody-else's"),
        ];
        let build = |start: &Start| -> Vec<(String, String)> {
            let inherited = inherited
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()));
            let built = environment.build(inherited, start);
            let text = |text: OsString| text.into_string().unwrap();
            built
                .into_iter()
                .map(|(name, value)| (text(name), text(value)))
                .collect()
        };
        let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs
                .iter()
                .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
                .collect()
        };
        let common = [
            ("PATH", "/bin"),
            ("A", "added"),
            ("ADJUTANT_TASK_ID", "t"),
            ("ADJUTANT_ATTEMPT", "2"),
            ("ADJUTANT_URL", "http://x"),
        ];
        assert_eq!(
            build(&start),
            [pairs(&common), pairs(&[("ADJUTANT_TOKEN", "its")])].concat()
        );
        start.token = None;
        assert_eq!(build(&start), pairs(&common));
    }
}

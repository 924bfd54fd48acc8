//! The environment of a command: the worker's own without what is the worker's alone.

use std::ffi::OsString;

use adjutant_wire::Start;

/// Everything with this prefix configures adjutant itself: tokens, a store with its password, addresses.
const OWN_PREFIX: &str = "ADJUTANT_";

/// What the commands of one worker see of their environment.
#[derive(Clone, Debug)]
pub(crate) struct Environment {
    /// The address of the server.
    pub(crate) url: String,
    /// The worker's own token: a variable with this value is withheld whatever its name.
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
        let mut variables: Vec<(OsString, OsString)> = inherited
            .filter(|(name, value)| {
                let own = name.as_encoded_bytes().starts_with(OWN_PREFIX.as_bytes());
                let secret = self
                    .secret
                    .as_ref()
                    .is_some_and(|secret| value.as_encoded_bytes() == secret.as_bytes());
                !own && !secret
            })
            .collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_sees_the_token_of_its_attempt_and_no_other() {
        let environment = Environment {
            url: "http://x".into(),
            secret: Some("mine".into()),
            added: vec![("A".into(), "added".into())],
        };
        let mut start: Start = serde_json::from_str(
            r#"{"task":{"id":"t","title":"t","status":"in_progress"},"attempt":2,"lease_expires_at":"2026-11-24T10:00:00Z","token":"its"}"#,
        )
        .unwrap();
        let inherited = [
            ("PATH", "/bin"),
            ("ADJUTANT_TOKEN", "mine"),
            ("ADJUTANT_ADMIN_TOKEN", "admin"),
            ("ADJUTANT_STORE", "postgres://user:password@host"),
            ("OTHER_NAME", "mine"),
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

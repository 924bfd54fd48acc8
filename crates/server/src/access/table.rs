//! The table of endpoints: who may use each, and what it may refuse.
//!
//! `admin` may use all of them and is not listed. A method and path that are not here do not exist for anybody, even
//! if there is a route: the guard answers 404 or 405.
//! What depends on the holder of a task is decided by the core; whether an agent's token names itself, by
//! [`super::caller`].

use std::collections::HashMap;

use adjutant_core::access::{Actor, Power, Role};
use adjutant_core::rejection::Slug;
use http::Method;

/// A set of kinds of callers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rights(u8);

/// Nobody but administrators.
pub(crate) const ADMIN: Rights = Rights(0);
/// Everyone, without a token.
pub(crate) const OPEN: Rights = Rights(1);
/// Tokens with the role `submit`.
pub(crate) const SUBMIT: Rights = Rights(2);
/// Tokens with the role `read`.
pub(crate) const READ: Rights = Rights(4);
/// Tokens with a role `agent:…`.
pub(crate) const AGENT: Rights = Rights(8);
/// Attempt tokens.
pub(crate) const ATTEMPT: Rights = Rights(16);

impl Rights {
    /// The kinds that are in either set.
    pub(crate) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The kinds that are in both sets.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether nobody is in it.
    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What an actor is, beside an administrator.
    pub(crate) fn of(actor: &Actor) -> Self {
        match &actor.power {
            Power::Attempt { .. } => ATTEMPT,
            Power::Roles(roles) => roles.iter().fold(Self(0), |rights, role| match role {
                Role::Admin => rights,
                Role::Submit => rights.or(SUBMIT),
                Role::Read => rights.or(READ),
                Role::Agent(_) | Role::AnyAgent => rights.or(AGENT),
            }),
        }
    }
}

/// One method of one path.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// The method; `HEAD` counts as `GET`.
    pub(crate) method: Method,
    /// The path as it is routed.
    pub(crate) path: &'static str,
    /// Who may use it, beside administrators.
    pub(crate) may: Rights,
    /// The slugs that it may answer beside those that every endpoint with its method may.
    pub(crate) refuses: &'static [&'static [Slug]],
    /// Whether the description of the API leaves it out: another way to write a path that is in the table too (`alias`),
    /// or a protocol that describes itself (`protocol`).
    pub(crate) undescribed: bool,
    /// Whether it is a page for people (`page`), which is not in the description either.
    pub(crate) is_page: bool,
}

const TASK: &[Slug] = &[Slug::TaskNotFound];
const AGENT_ID: &[Slug] = &[Slug::AgentNotFound];
const SUBMISSION: &[Slug] = &[Slug::UnknownDependency, Slug::DependencyCycle, Slug::StorageLow];
const EXISTS: &[Slug] = &[Slug::TaskExists];
const BATCH: &[Slug] = &[Slug::BatchTooLarge];
const STATE: &[Slug] = &[Slug::WrongState];
const FENCED: &[Slug] = &[Slug::StaleAttempt, Slug::NotHolder, Slug::WrongState];
const SESSION: &[Slug] = &[Slug::Superseded];
const TOKEN: &[Slug] = &[Slug::TokenExists];
const NO_TOKEN: &[Slug] = &[Slug::TokenNotFound];
const WEBHOOK: &[Slug] = &[Slug::WebhookNotFound];
const WEBHOOK_NAME: &[Slug] = &[Slug::WebhookExists];
const DELIVERY: &[Slug] = &[Slug::DeliveryNotFound];
const CLAIM: &[Slug] = &[
    Slug::TaskAlreadyClaimed,
    Slug::TaskNotClaimable,
    Slug::AgentDraining,
    Slug::AgentOffline,
    Slug::MissingCapability,
    Slug::ExceedsAllowance,
    Slug::QuotaExceeded,
    Slug::AgentFull,
    Slug::AgentPaused,
    Slug::AgentQuarantined,
];

/// `METHOD "path" who | may [refusals]`, one endpoint a line, and why it is not described where that is so.
macro_rules! table {
    ($($method:ident $path:literal $($who:ident)|+ [$($refuses:expr),*] $($note:ident)?;)*) => {
        vec![$(Endpoint {
            method: Method::$method,
            path: $path,
            may: Rights(0)$(.or($who))+,
            refuses: &[$($refuses),*],
            undescribed: table!(@$($note)?),
            is_page: table!(?$($note)?),
        },)*]
    };
    (@) => { false };
    (@alias) => { true };
    (@protocol) => { true };
    (@page) => { true };
    (?page) => { true };
    (?$($note:ident)?) => { false };
}

/// All endpoints.
#[rustfmt::skip]
pub(crate) fn endpoints() -> Vec<Endpoint> {
    table! {
        GET    "/v1/health"                          OPEN                          [];
        GET    "/openapi.json"                       SUBMIT | READ | AGENT         [];
        GET    "/metrics"                            READ                          [];

        GET    "/api/tasks"                          SUBMIT | READ | AGENT         [];
        POST   "/api/tasks"                          SUBMIT                        [SUBMISSION, EXISTS];
        GET    "/api/tasks/{id}"                     SUBMIT | READ | AGENT         [TASK];
        PATCH  "/api/tasks/{id}"                     SUBMIT | AGENT | ATTEMPT      [TASK, FENCED];
        POST   "/api/tasks/{id}/claim"               AGENT                         [TASK, CLAIM];
        POST   "/api/tasks/{id}/complete"            AGENT | ATTEMPT               [TASK, FENCED];
        POST   "/api/tasks/{id}/release"             AGENT                         [TASK, FENCED];
        POST   "/api/tasks/{id}/cancel"              SUBMIT                        [TASK, STATE];
        POST   "/api/tasks/{id}/retry"               ADMIN                         [TASK, STATE];
        POST   "/api/tasks/{id}/hold"                ADMIN                         [TASK, STATE];
        POST   "/api/tasks/{id}/unhold"              ADMIN                         [TASK, STATE];
        GET    "/api/tasks/{id}/output"              SUBMIT | READ                 [TASK];
        POST   "/api/tasks/{id}/output"              AGENT | ATTEMPT               [TASK, FENCED];
        GET    "/api/tasks/{id}/explain"             SUBMIT | READ                 [TASK];
        GET    "/api/tasks/{id}/events"              SUBMIT | READ                 [TASK];

        POST   "/api/batch/tasks"                    SUBMIT                        [SUBMISSION, EXISTS, BATCH];
        POST   "/api/batch/complete"                 AGENT                         [TASK, FENCED, BATCH];

        GET    "/api/agents"                         READ                          [];
        POST   "/api/agents"                         AGENT                         [SESSION, STATE];
        GET    "/api/agents/{id}"                    READ | AGENT                  [AGENT_ID];
        DELETE "/api/agents/{id}"                    AGENT                         [AGENT_ID];
        POST   "/api/agents/{id}/sync"               AGENT                         [AGENT_ID, SESSION, &[Slug::StaleSync], TASK, FENCED];
        POST   "/api/agents/{id}/heartbeat"          AGENT                         [AGENT_ID, SESSION];
        POST   "/api/agents/{id}/drain"              ADMIN                         [AGENT_ID];
        POST   "/api/agents/{id}/undrain"            ADMIN                         [AGENT_ID];
        POST   "/api/agents/{id}/lift"               ADMIN                         [AGENT_ID];

        GET    "/api/limits/{scope}"                 READ                          [];
        PUT    "/api/limits/{scope}"                 ADMIN                         [];
        POST   "/api/limits/{scope}/reset"           ADMIN                         [];
        GET    "/api/limits/{scope}/{name}"          READ                          [] alias;
        PUT    "/api/limits/{scope}/{name}"          ADMIN                         [] alias;
        POST   "/api/limits/{scope}/{name}/reset"    ADMIN                         [] alias;

        GET    "/api/allowances/{agent_id}"          READ                          [];
        PUT    "/api/allowances/{agent_id}"          ADMIN                         [];
        POST   "/api/allowances/{agent_id}/reset"    ADMIN                         [];
        GET    "/api/allowances/{agent_id}/check"    READ | AGENT                  [];
        GET    "/api/allowances/{agent_id}/usage"    READ | AGENT                  [];

        GET    "/api/models/{model}"                 READ                          [];
        PUT    "/api/models/{model}"                 ADMIN                         [];
        GET    "/api/models/{model}/{variant}"       READ                          [] alias;
        PUT    "/api/models/{model}/{variant}"       ADMIN                         [] alias;
        GET    "/api/repos/{owner}/{name}"           READ                          [];
        PUT    "/api/repos/{owner}/{name}"           ADMIN                         [];

        POST   "/api/usage"                          AGENT | ATTEMPT               [TASK, &[Slug::StaleAttempt, Slug::NotHolder, Slug::JobIsTask]];
        GET    "/api/status"                         SUBMIT | READ                 [];
        GET    "/api/events"                         SUBMIT | READ                 [];

        POST   "/mcp"                                SUBMIT | READ | AGENT | ATTEMPT [] protocol;

        GET    "/api/tokens"                         ADMIN                         [];
        POST   "/api/tokens"                         ADMIN                         [TOKEN];
        DELETE "/api/tokens/{name}"                  ADMIN                         [NO_TOKEN];

        POST   "/api/sign-in-links"                  SUBMIT | READ                 [];

        GET    "/api/webhooks"                       ADMIN                         [];
        POST   "/api/webhooks"                       ADMIN                         [WEBHOOK_NAME];
        GET    "/api/webhooks/{name}"                ADMIN                         [WEBHOOK];
        DELETE "/api/webhooks/{name}"                ADMIN                         [WEBHOOK];
        POST   "/api/webhooks/{name}/test"           ADMIN                         [WEBHOOK];
        POST   "/api/webhooks/{name}/resume"         ADMIN                         [WEBHOOK];
        GET    "/api/webhooks/{name}/deliveries"     ADMIN                         [WEBHOOK];
        POST   "/api/webhooks/{name}/deliveries/retry" ADMIN                       [WEBHOOK, DELIVERY];
        POST   "/api/webhooks/{name}/deliveries/{seq}/retry" ADMIN                 [WEBHOOK, DELIVERY];

        GET    "/.well-known/agent-card.json"        OPEN                          [] protocol;
        POST   "/message:send"                       SUBMIT                        [] protocol;
        POST   "/message:stream"                     SUBMIT                        [] protocol;
        GET    "/tasks"                              SUBMIT | READ | AGENT         [] protocol;
        GET    "/tasks/{id}"                         SUBMIT | READ | AGENT         [] protocol;
        POST   "/tasks/{id}"                         SUBMIT | READ                 [] protocol;
        GET    "/tasks/{id}/pushNotificationConfigs" SUBMIT | READ                 [] protocol;
        POST   "/tasks/{id}/pushNotificationConfigs" SUBMIT                        [] protocol;
        GET    "/tasks/{id}/pushNotificationConfigs/{config}" SUBMIT | READ        [] protocol;
        DELETE "/tasks/{id}/pushNotificationConfigs/{config}" SUBMIT               [] protocol;
        GET    "/extendedAgentCard"                  SUBMIT | READ | AGENT         [] protocol;

        GET    "/"                                   SUBMIT | READ                 [] page;
        GET    "/dashboard/fleet"                    READ                          [] page;
        GET    "/dashboard/agents/{id}"              READ                          [] page;
        GET    "/dashboard/queue"                    SUBMIT | READ                 [] page;
        GET    "/dashboard/find"                     SUBMIT | READ                 [] page;
        GET    "/dashboard/tasks/{id}"               SUBMIT | READ                 [] page;
        GET    "/dashboard/dead-letters"             SUBMIT | READ                 [] page;
        GET    "/dashboard/limits"                   READ                          [] page;
        GET    "/dashboard/trends"                   READ                          [] page;
        GET    "/dashboard/events"                   SUBMIT | READ                 [] page;
        GET    "/dashboard/pulse"                    SUBMIT | READ                 [] protocol;
        GET    "/docs"                               SUBMIT | READ | AGENT         [] page;
        GET    "/docs/{file}"                        OPEN                          [] protocol;
        GET    "/dashboard/style.css"                OPEN                          [] protocol;
        GET    "/dashboard/dashboard.js"             OPEN                          [] protocol;
        GET    "/dashboard/icon.svg"                 OPEN                          [] protocol;
        GET    "/sign-in"                            OPEN                          [] page;
        POST   "/sign-in"                            OPEN                          [] page;
        POST   "/sign-out"                           OPEN                          [] page;
    }
}

impl Endpoint {
    /// Every slug that it may answer, in the order in which slugs are listed.
    pub(crate) fn slugs(&self) -> Vec<Slug> {
        let mut slugs = vec![
            Slug::BadRequest,
            Slug::ForeignOrigin,
            Slug::Internal,
            Slug::Overloaded,
            Slug::ShuttingDown,
            Slug::StorageUnavailable,
            Slug::InvalidField,
        ];
        if self.may != OPEN {
            slugs.extend([Slug::Unauthorized, Slug::Forbidden, Slug::TooManyAttempts]);
        }
        if self.has_body() {
            slugs.extend([
                Slug::MalformedJson,
                Slug::BodyTooLarge,
                Slug::UnsupportedMediaType,
            ]);
        }
        if self.method != Method::GET {
            slugs.push(Slug::StorageFull);
        }
        if self.method == Method::POST {
            slugs.push(Slug::IdempotencyMismatch);
        }
        slugs.extend(self.refuses.iter().copied().flatten());
        Slug::ALL
            .iter()
            .copied()
            .filter(|slug| slugs.contains(slug))
            .collect()
    }

    fn has_body(&self) -> bool {
        [Method::POST, Method::PUT, Method::PATCH].contains(&self.method)
    }
}

/// The table, ready to be asked.
#[derive(Debug)]
pub(crate) struct Table(HashMap<&'static str, Lines>);

/// The methods of one path.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    methods: Vec<(Method, Rights)>,
    is_page: bool,
}

impl Table {
    /// The table of all endpoints.
    pub(crate) fn new() -> Self {
        let mut table: HashMap<_, Lines> = HashMap::new();
        for endpoint in endpoints() {
            let lines = table.entry(endpoint.path).or_default();
            lines.methods.push((endpoint.method, endpoint.may));
            lines.is_page |= endpoint.is_page;
        }
        Self(table)
    }

    /// The methods of a routed path; none when the table does not have it.
    pub(crate) fn of(&self, path: &str) -> Option<&Lines> {
        self.0.get(path)
    }
}

impl Lines {
    /// Who may use a method; none when the path has no such method.
    pub(crate) fn find(&self, method: &Method) -> Option<Rights> {
        let method = if method == Method::HEAD {
            &Method::GET
        } else {
            method
        };
        self.methods
            .iter()
            .find(|(own, _)| own == method)
            .map(|(_, rights)| *rights)
    }

    /// Whether people see what is answered there.
    pub(crate) const fn is_page(&self) -> bool {
        self.is_page
    }

    /// The methods, as the `Allow` header lists them.
    pub(crate) fn methods(&self) -> String {
        let names: Vec<_> = self
            .methods
            .iter()
            .map(|(method, _)| match method.as_str() {
                "GET" => "GET,HEAD",
                other => other,
            })
            .collect();
        names.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may(role: Option<&str>, line: &str) -> bool {
        let (method, path) = line.split_once(' ').unwrap();
        let rights = Table::new()
            .of(path)
            .and_then(|lines| lines.find(&method.parse().unwrap()))
            .unwrap();
        let power = match role {
            Some(role) => Power::Roles([role.parse().unwrap()].into()),
            None => Power::Attempt {
                task: "t".into(),
                number: 1,
            },
        };
        let actor = Actor {
            name: "x".into(),
            power,
        };
        actor.is_admin() || !rights.and(Rights::of(&actor)).is_empty()
    }

    #[test]
    fn each_role_reaches_what_the_contract_gives_it_and_no_more() {
        let (submit, read, agent, any) = (Some("submit"), Some("read"), Some("agent:a"), Some("agent:*"));
        for (role, line, expected) in [
            (submit, "POST /api/tasks", true),
            (submit, "POST /api/tasks/{id}/cancel", true),
            (submit, "GET /api/events", true),
            (submit, "POST /api/tasks/{id}/complete", false),
            (submit, "POST /api/tasks/{id}/claim", false),
            (submit, "PUT /api/limits/{scope}", false),
            (submit, "GET /api/agents", false),
            (read, "GET /api/agents", true),
            (read, "GET /metrics", true),
            (read, "HEAD /api/tasks", true),
            (read, "POST /api/tasks", false),
            (read, "GET /api/tokens", false),
            (agent, "POST /api/agents/{id}/sync", true),
            (any, "POST /api/agents", true),
            (agent, "POST /api/usage", true),
            (agent, "POST /api/tasks", false),
            (agent, "POST /api/tasks/{id}/cancel", false),
            (agent, "DELETE /api/agents/{id}", true),
            (agent, "POST /api/agents/{id}/drain", false),
            (agent, "GET /api/tasks/{id}", true),
            (None, "PATCH /api/tasks/{id}", true),
            (None, "POST /api/tasks/{id}/output", true),
            (None, "GET /api/tasks/{id}", false),
            (None, "POST /api/tasks/{id}/release", false),
            (None, "POST /api/agents/{id}/sync", false),
        ] {
            assert_eq!(may(role, line), expected, "{role:?} {line}");
        }
    }

    #[test]
    fn administrators_reach_everything_and_readers_every_get_but_tokens_and_webhooks() {
        for endpoint in endpoints() {
            let line = format!("{} {}", endpoint.method, endpoint.path);
            assert!(may(Some("admin"), &line), "{line}");
            if endpoint.may != OPEN {
                let secret = ["/api/tokens", "/api/webhooks"]
                    .iter()
                    .any(|path| endpoint.path.starts_with(path));
                let reads = endpoint.method == Method::GET && !secret;
                // To follow a task is to read it, by whatever method; what is asked by way of /mcp is let in, or not, by the
                // line of its own.
                let follows = endpoint.path == "/tasks/{id}" && endpoint.method == Method::POST;
                // A link signs in who asks for it, and nobody else.
                let signs_in = endpoint.path == "/api/sign-in-links";
                let expected = reads || follows || signs_in || endpoint.path == "/mcp";
                assert_eq!(may(Some("read"), &line), expected, "{line}");
            }
        }
    }
}

//! Names: of spans and their attributes. All that follows a convention is here, because conventions move.
//!
//! `gen_ai.*` is of the semantic conventions for generative AI of OpenTelemetry (in development, as of November 2026),
//! `error.type` of the stable ones; `adjutant.*` is our own.

/// What the spans are made by.
pub(crate) const SCOPE: &str = "adjutant";
/// The name of the service where the environment gives none.
pub(crate) const SERVICE: &str = "adjutant";

// ---- spans -----------------------------------------------------------------------------------------------------------

pub(crate) const SUBMIT: &str = "submit_task";
pub(crate) const DISPATCH: &str = "dispatch_task";
pub(crate) const SETTLE: &str = "settle_task";
/// Of an attempt; the name of the agent stands behind it.
pub(crate) const INVOKE_AGENT: &str = "invoke_agent";

// ---- conventions -----------------------------------------------------------------------------------------------------

pub(crate) const OPERATION_NAME: &str = "gen_ai.operation.name";
pub(crate) const PROVIDER_NAME: &str = "gen_ai.provider.name";
pub(crate) const AGENT_ID: &str = "gen_ai.agent.id";
pub(crate) const AGENT_NAME: &str = "gen_ai.agent.name";
pub(crate) const REQUEST_MODEL: &str = "gen_ai.request.model";
pub(crate) const RESPONSE_MODEL: &str = "gen_ai.response.model";
/// With what came from a cache.
pub(crate) const INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
pub(crate) const CACHED_TOKENS: &str = "gen_ai.usage.cache_read.input_tokens";
pub(crate) const OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";
pub(crate) const ERROR_TYPE: &str = "error.type";

/// The provider of a model, as the conventions name it, where the name of the model tells it.
pub(crate) fn provider(model: &str) -> Option<&'static str> {
    const PROVIDERS: [(&str, &str); 8] = [
        ("claude", "anthropic"),
        ("gpt", "openai"),
        ("o3", "openai"),
        ("o4", "openai"),
        ("gemini", "gcp.gemini"),
        ("mistral", "mistral_ai"),
        ("deepseek", "deepseek"),
        ("grok", "x_ai"),
    ];
    // A router's prefix, as in `anthropic/claude-…`, stands before a slash.
    let name = model.rsplit('/').next().unwrap_or(model);
    PROVIDERS
        .iter()
        .find(|(prefix, _)| name.starts_with(prefix))
        .map(|(_, provider)| *provider)
}

// ---- our own ---------------------------------------------------------------------------------------------------------

pub(crate) const TASK_ID: &str = "adjutant.task.id";
pub(crate) const TASK_PRIORITY: &str = "adjutant.task.priority";
pub(crate) const TASK_STATUS: &str = "adjutant.task.status";
pub(crate) const TASK_LABELS: &str = "adjutant.task.labels";
pub(crate) const TASK_PROJECT: &str = "adjutant.task.project";
pub(crate) const TASK_REPO: &str = "adjutant.task.repo";
pub(crate) const ATTEMPT: &str = "adjutant.attempt";
pub(crate) const OUTCOME: &str = "adjutant.outcome";
pub(crate) const COST_DOLLARS: &str = "adjutant.cost.dollars";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_is_told_by_the_name_of_its_model_or_not_at_all() {
        for (model, expected) in [
            ("claude-sonnet-4", Some("anthropic")),
            ("anthropic/claude-opus", Some("anthropic")),
            ("gpt-5", Some("openai")),
            ("house-model", None),
        ] {
            assert_eq!(provider(model), expected, "{model}");
        }
    }
}

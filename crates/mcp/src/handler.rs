//! The handler: requests of the protocol come in, tools are listed and called.
//!
//! Whoever mounts the [`Service`] puts a [`Visitor`] into the extensions of each HTTP request; nothing else is known of
//! the caller, and nothing is remembered of it afterwards.

use std::sync::Arc;

use http::request::Parts;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, CancelTaskParams, GetTaskParams, GetTaskResult,
    Implementation, ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig,
    UpdateTaskParams,
};
use rmcp::service::RequestContext;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, RoleServer, ServerHandler};

use crate::api::{Api, ApiError, Reply, Request};
use crate::audience::Audience;
use crate::handles;
use crate::tools;

/// What models read of this server before they see its tools.
const INSTRUCTIONS: &str = "adjutant hands tasks to a fleet of agents. If you work for it: call `register` once with what \
    you can do, then `next_task`; do what the task says, report with `update_task`, end with `complete_task`, and call \
    `next_task` again. If you plan for it: `create_task` and `create_tasks` hand out work, `list_tasks`, `get_task` and \
    `explain_task` show what became of it. You only see the tools that your token allows. A refusal says in its text what \
    is wrong and ends with a stable name in brackets.";

/// The tool that is answered with a handle, where the client follows those.
const FOLLOWED: &str = "create_task";

/// Who asks, and how the API is asked for it.
#[derive(Clone)]
pub struct Visitor {
    /// The API, with the caller's own token.
    pub api: Arc<dyn Api>,
    /// What the token allows.
    pub audience: Audience,
}

impl Visitor {
    pub(crate) async fn ask(&self, request: Request) -> Result<Reply, ApiError> {
        self.api.call(request).await
    }

    /// Whoever mounts the service puts it there.
    fn of(context: &RequestContext<RoleServer>) -> Result<Self, ErrorData> {
        let parts = context.extensions.get::<Parts>();
        parts
            .and_then(|parts| parts.extensions.get::<Self>())
            .cloned()
            .ok_or_else(|| ErrorData::internal_error("the request does not say who asks", None))
    }
}

/// The HTTP service.
pub type Service = StreamableHttpService<Handler, NeverSessionManager>;

/// The HTTP service: a tower service that takes the requests of one path, whose bodies are at most this long.
///
/// It keeps no sessions and answers with plain JSON. Hosts and origins are for the caller to check.
pub fn service(max_body_bytes: usize) -> Service {
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_sse_keep_alive(None)
        .with_max_request_body_bytes(max_body_bytes)
        .disable_allowed_hosts()
        .disable_allowed_origins();
    StreamableHttpService::new(|| Ok(Handler), Arc::new(NeverSessionManager::default()), config)
}

/// Handles the requests of the protocol.
#[derive(Clone, Copy, Debug)]
pub struct Handler;

impl ServerHandler for Handler {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_tasks()
            .build();
        let name = Implementation::new("adjutant", env!("CARGO_PKG_VERSION"));
        ServerConfig::new(capabilities)
            .with_server_info(name)
            .with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let visitor = Visitor::of(&context)?;
        let shown = tools::all()
            .iter()
            .filter(|entry| visitor.audience.is_among(entry.roles))
            .map(|entry| entry.tool.clone())
            .collect();
        Ok(ListToolsResult::with_all_items(shown))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let visitor = Visitor::of(&context)?;
        let Some(entry) = tools::find(&request.name) else {
            return Err(ErrorData::invalid_params(
                format!("there is no tool `{}`", request.name),
                None,
            ));
        };
        let outcome = tokio::select! {
            biased;
            // Nobody is there any more: a wait for work ends, so that none is given to someone who left.
            () = context.ct.cancelled() => return Err(ErrorData::internal_error("the request was cancelled", None)),
            outcome = entry.call(visitor, request.arguments.unwrap_or_default()) => outcome,
        };
        let follows = context
            .client_capabilities()
            .is_some_and(|client| client.supports_tasks());
        if follows && request.name == FOLLOWED && !outcome.is_error {
            return Ok(handles::created(&outcome.structured["task"]).into());
        }
        Ok(CallToolResult::from(outcome).into())
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        handles::get(&Visitor::of(&context)?, &request.task_id).await
    }

    async fn update_task(
        &self,
        request: UpdateTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        handles::update(&Visitor::of(&context)?, &request.task_id).await
    }

    async fn cancel_task(
        &self,
        request: CancelTaskParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        handles::cancel(&Visitor::of(&context)?, &request.task_id).await
    }
}

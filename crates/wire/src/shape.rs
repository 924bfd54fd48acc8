//! The shapes of texts and numbers: what the description of the API says of them beside their type.
//!
//! Nothing here is read or written. The rules themselves are in the core and in the server's parsers; `.ci/schemathesis`
//! holds these descriptions to what a server does.

use std::borrow::Cow;

use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{
    AnyOfBuilder, ArrayBuilder, ArrayItems, KnownFormat, Object, ObjectBuilder, Schema, SchemaFormat,
    SchemaType, Type,
};
use utoipa::{PartialSchema, ToSchema};

/// The most items of most lists.
const MAX_LIST: usize = 1_000;
/// The most of anything that is counted.
const MAX_COUNT: usize = 1_000_000_000_000;
/// The longest duration in seconds: a hundred years.
const MAX_SECONDS: usize = 3_162_240_000;
/// The most cents.
const MAX_CENTS: usize = 1_000_000_000;

macro_rules! shapes {
    ($($(#[$doc:meta])* $name:ident = $schema:expr;)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug)]
            pub struct $name;

            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                        RefOr::T($schema.into())
                }
            }

            impl ToSchema for $name {
                fn name() -> Cow<'static, str> {
                    Cow::Borrowed(stringify!($name))
                }
            }
        )*
    };
}

shapes! {
    /// The id of a task or an agent.
    Id = text("1–128 of `[A-Za-z0-9._:-]`", "^[A-Za-z0-9._:-]{1,128}$");
    /// The same where an empty text means that there is none.
    IdOrEmpty = text("An id; empty is none", "^[A-Za-z0-9._:-]{0,128}$");
    /// A label, a model, a project or a lock.
    Name = text("1–200 characters, none of them a control character", r"^[^\u0000-\u001f\u007f-\u009f]{1,200}$");
    /// The same where an empty text means that there is none.
    NameOrEmpty = text("A name; empty is none", r"^[^\u0000-\u001f\u007f-\u009f]{0,200}$");
    /// A repository; an empty text means that there is none.
    RepoOrEmpty = text(
        "`owner/name`; empty is none",
        r"^([^/\u0000-\u001f\u007f-\u009f]{1,99}/[^/\u0000-\u001f\u007f-\u009f]{1,99})?$"
    );
    /// A list of ids.
    Ids = list(Id::schema());
    /// A set of names.
    Names = list(Name::schema());
    /// A number of tokens, or of anything else that is counted.
    Count = number(Type::Integer, KnownFormat::Int64, MAX_COUNT);
    /// A limit on what is counted.
    Bound = from(1, number(Type::Integer, KnownFormat::Int64, MAX_COUNT));
    /// A limit on money.
    CentsBound = above(0, number(Type::Number, KnownFormat::Double, MAX_CENTS));
    /// A number of 32 bits.
    Small = number(Type::Integer, KnownFormat::Int64, u32::MAX as usize);
    /// An amount of money.
    Cents = number(Type::Number, KnownFormat::Double, MAX_CENTS);
    /// A length of time.
    Duration = Schema::from(
        AnyOfBuilder::new()
            .item(number(Type::Integer, KnownFormat::Int64, MAX_SECONDS))
            .item(text(
                "With a unit",
                "^([0-9]{1,9}s?|[0-9]{1,7}m|[0-9]{1,5}h|[0-9]{1,4}d)$",
            ))
            .description(Some("Whole seconds, or a text such as `\"90s\"`, `\"30m\"`, `\"2h\"`, `\"1d\"`"))
            .build()
    );
    /// What a token allows.
    RoleName = text(
        "`admin`, `submit`, `read`, `agent:ID` or `agent:*`",
        r"^(admin|submit|read|agent:(\*|[A-Za-z0-9._:-]{1,128}))$"
    );
    /// A type of event.
    EventType = {
        let names: Vec<&str> = adjutant_core::event::EventKind::ALL.iter().map(|kind| kind.name()).collect();
        one_of(&names)
    };
    /// JSON of any kind.
    AnyJson = Schema::from(ObjectBuilder::new().schema_type(SchemaType::AnyValue).build());
    /// How urgent a task is.
    PriorityName = one_of(&["critical", "high", "medium", "low"]);
    /// Where a task stands.
    StatusName = one_of(&["pending", "blocked", "in_progress", "completed", "failed", "cancelled"]);
    /// What a success counts for in its repository.
    ProducesName = one_of(&["pull_request", "issue"]);
    /// The period that a limit counts over.
    WindowName = one_of(&["hour", "day", "total"]);
}

/// What [`LimitSpec`](crate::LimitSpec) looks like in the description of the API. What is `null` or left out is unlimited.
#[derive(Clone, Debug, ToSchema)]
#[schema(as = LimitSpec)]
#[expect(dead_code, reason = "it is only described")]
pub struct LimitShape {
    /// The period that is counted over.
    #[schema(value_type = WindowName)]
    window: String,
    /// Input and output tokens.
    #[schema(value_type = Option<Bound>)]
    tokens: Option<u64>,
    /// Cents.
    #[schema(value_type = Option<CentsBound>)]
    cost: Option<f64>,
    /// Attempts started.
    #[schema(value_type = Option<Bound>)]
    jobs: Option<u64>,
    /// Attempts running at the same time; the window does not matter.
    #[schema(value_type = Option<Bound>)]
    concurrent: Option<u64>,
    /// Pull requests made.
    #[schema(value_type = Option<Bound>)]
    pull_requests: Option<u64>,
    /// Issues made.
    #[schema(value_type = Option<Bound>)]
    issues: Option<u64>,
    /// Whether running attempts are stopped when tokens or cost are used up; true when left out.
    #[schema(required = false)]
    hard: bool,
}

/// Cents for a million tokens.
#[derive(Clone, Debug, ToSchema)]
#[schema(as = Prices)]
#[expect(dead_code, reason = "it is only described")]
pub struct PricesShape {
    /// Fresh input.
    #[schema(value_type = Cents, required = false)]
    input: f64,
    /// Output.
    #[schema(value_type = Cents, required = false)]
    output: f64,
    /// Cached input.
    #[schema(value_type = Cents, required = false)]
    cached: f64,
}

fn text(words: &str, pattern: &str) -> Schema {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some(words))
        .pattern(Some(pattern))
        .build()
        .into()
}

fn number(kind: Type, format: KnownFormat, most: usize) -> Object {
    ObjectBuilder::new()
        .schema_type(kind)
        .format(Some(SchemaFormat::KnownFormat(format)))
        .minimum(Some(0_usize))
        .maximum(Some(most))
        .build()
}

fn from(least: usize, number: Object) -> ObjectBuilder {
    ObjectBuilder::from(number).minimum(Some(least))
}

fn above(bound: usize, number: Object) -> ObjectBuilder {
    ObjectBuilder::from(number)
        .minimum(None::<usize>)
        .exclusive_minimum(Some(bound))
}

fn one_of(names: &[&str]) -> Schema {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(names.iter().copied()))
        .build()
        .into()
}

fn list(of: RefOr<Schema>) -> Schema {
    ArrayBuilder::new()
        .items(ArrayItems::RefOrSchema(Box::new(of)))
        .max_items(Some(MAX_LIST))
        .build()
        .into()
}

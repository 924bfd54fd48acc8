//! Every statement of the turns, prepared once for each connection.
//!
//! A turn sends its statements without waiting for one before the next (they are answered in order), so that a load is
//! one round trip and a commit is two, whatever their size. Statements are over arrays: one for all rows of a kind.

use super::codec::{agent_columns, attempt_columns, delivery_columns, line_columns, task_columns};

/// What stands in an index for a text that may be too long for one.
macro_rules! digest {
    ($text:literal) => {
        concat!("sha256(convert_to(", $text, ", 'UTF8'))")
    };
}
pub(super) use digest;

macro_rules! statements {
    ($($name:ident = $sql:expr;)*) => {
        /// A prepared statement.
        #[derive(Debug, Clone, Copy)]
        pub(super) enum Sql { $($name),* }

        /// The texts, in the order of [`Sql`].
        pub(super) const ALL: &[&str] = &[$($sql),*];

        impl Sql {
            /// The text, for a connection that prepares nothing.
            pub(super) const fn text(self) -> &'static str {
                ALL[self as usize]
            }
        }
    };
}

statements! {
    // ---- load: what is named, in the order in which it is locked ----
    LockReplays = "SELECT replay.token, replay.key, digest, at, answer FROM replay \
        JOIN unnest($1::text[], $2::text[]) AS named (token, key) USING (token, key) \
        ORDER BY replay.token, replay.key FOR UPDATE OF replay";
    LockTasks = concat!("SELECT ", task_columns!(), " FROM task WHERE key = ANY($1::bigint[] || \
        ARRAY(SELECT task FROM task_id WHERE id = ANY($2::text[]))) ORDER BY key FOR UPDATE");
    LockAttempts = concat!("SELECT ", attempt_columns!(), " FROM attempt \
        JOIN unnest($1::bigint[], $2::bigint[]) AS named (task, number) USING (task, number) \
        ORDER BY attempt.task, attempt.number FOR UPDATE OF attempt");
    LockWebhooks = "SELECT name, document FROM webhook WHERE name = ANY($1::text[]) ORDER BY name FOR UPDATE";
    // They are under the lock of their webhook.
    Deliveries = concat!("SELECT ", delivery_columns!(), " FROM delivery \
        JOIN unnest($1::text[], $2::bigint[]) AS named (webhook, seq) USING (webhook, seq)");
    Lines = concat!("SELECT ", line_columns!(), " FROM line \
        JOIN unnest($1::bigint[], $2::bigint[]) AS named (task, number) USING (task, number) \
        ORDER BY line.task, line.number, line.index");
    LockJobs = "SELECT id, task, number FROM job WHERE id = ANY($1::text[]) ORDER BY id FOR UPDATE";
    Experiences = concat!("SELECT experience.labels, experience.model, samples FROM unnest($1::text[], $2::text[]) \
        AS named (labels, model) JOIN experience ON experience.digest = ", digest!("named.labels"), " \
        AND experience.model = named.model");
    LockLocks = "SELECT name, task, number FROM lock WHERE name = ANY($1::text[]) ORDER BY name FOR UPDATE";
    LockAgents = concat!("SELECT ", agent_columns!(), " FROM agent WHERE id = ANY($1::text[]) ORDER BY id FOR UPDATE");
    // Those that decisions hang on are locked, and the others too where `$2` says so. In the order of bytes, as whoever
    // writes to them at once locks them.
    Scopes = "WITH locked AS MATERIALIZED (SELECT name, version, policy, counter FROM scope \
        WHERE name = ANY($1::text[]) AND (guarded OR $2) ORDER BY name COLLATE \"C\" FOR UPDATE) \
        SELECT name, version, policy, counter, true FROM locked UNION ALL \
        SELECT name, version, policy, counter, false FROM scope WHERE name = ANY($1::text[]) \
        AND NOT EXISTS (SELECT FROM locked WHERE locked.name = scope.name)";
    Claims = "SELECT key FROM task WHERE claimed_by = ANY($1::text[]) AND status = $2 ORDER BY key";
    ClassesById = "SELECT id, demand FROM class WHERE id = ANY($1::bigint[])";

    // ---- load: whatever is there ----
    LockWindows = concat!("SELECT ", task_columns!(), ", named.place \
        FROM unnest($1::bigint[], $2::text[], $3::smallint[], $4::bigint[]) WITH ORDINALITY \
        AS named (class, gate, priority, key, place) CROSS JOIN LATERAL (SELECT * FROM task \
        WHERE ready AND task.class = named.class AND task.gate = named.gate \
        AND (task.priority, task.key) > (named.priority, named.key) \
        ORDER BY task.priority, task.key LIMIT $5 FOR UPDATE SKIP LOCKED) AS task \
        ORDER BY named.place, task.priority, task.key");
    Windows = "SELECT task.key, named.place \
        FROM unnest($1::bigint[], $2::text[], $3::smallint[], $4::bigint[]) WITH ORDINALITY \
        AS named (class, gate, priority, key, place) CROSS JOIN LATERAL (SELECT priority, key FROM task \
        WHERE ready AND task.class = named.class AND task.gate = named.gate \
        AND (task.priority, task.key) > (named.priority, named.key) \
        ORDER BY task.priority, task.key LIMIT $5) AS task \
        ORDER BY named.place, task.priority, task.key";
    Wanters = "SELECT priority, task FROM want WHERE lock = $1 AND (priority, task) > ($2::smallint, $3::bigint) \
        ORDER BY priority, task LIMIT $4";
    Dependents = "SELECT dependent, state FROM edge WHERE dependency = $1 AND dependent > $2 \
        ORDER BY dependent LIMIT $3";
    // The queues one after the other, each found by a step in the index: waiting tasks in one are not gone through.
    Queues = "WITH RECURSIVE queue AS ( \
        (SELECT class, gate FROM task WHERE ready ORDER BY class, gate LIMIT 1) \
        UNION ALL SELECT next.class, next.gate FROM queue CROSS JOIN LATERAL \
        (SELECT class, gate FROM task WHERE ready AND (class, gate) > (queue.class, queue.gate) \
         ORDER BY class, gate LIMIT 1) AS next) \
        SELECT class, gate, (SELECT count(*) FROM (SELECT 1 FROM task WHERE ready AND task.class = queue.class \
         AND task.gate = queue.gate LIMIT $1) AS counted) FROM queue";
    LockTakers = concat!("SELECT ", agent_columns!(), " FROM agent WHERE id = ANY($1::text[]) ORDER BY id \
        FOR UPDATE SKIP LOCKED");
    LockTakersScopes = "SELECT name, version, policy, counter FROM scope WHERE name = ANY($1::text[]) ORDER BY name COLLATE \"C\" \
        FOR UPDATE SKIP LOCKED";
    ScopeNames = "SELECT name FROM scope WHERE name = ANY($1::text[])";
    Roomy = concat!("SELECT ", agent_columns!(), ", scope.policy, scope.counter FROM agent \
        LEFT JOIN scope ON scope.name = 'agent:' || agent.id WHERE agent.room");
    Everyone = concat!("SELECT ", agent_columns!(), ", scope.policy, scope.counter FROM agent \
        LEFT JOIN scope ON scope.name = 'agent:' || agent.id");
    Due = "SELECT key, wakes_at FROM task WHERE wakes_at IS NOT NULL ORDER BY wakes_at LIMIT $1";
    Silent = "SELECT agent.id, agent.last_seen, agent.home, server.vouched_at FROM agent \
        LEFT JOIN server ON server.id = agent.home WHERE NOT offline AND agent.last_seen <= $1 ORDER BY agent.id";
    Lingering = "SELECT task, number FROM attempt WHERE lapses_at IS NOT NULL AND lapses_at <= $1 \
        ORDER BY task, number";
    // After everything is locked: no turn lies before what another one has committed.
    Now = "SELECT greatest((extract(epoch FROM clock_timestamp()) * 1000000)::bigint, at), seq, \
        greatest((SELECT max(key) FROM task), (SELECT max(task) FROM attempt WHERE external)), \
        set_config('lock_timeout', $1, true) FROM event_head";

    // ---- between turns ----
    Bodies = "SELECT task, doc, payload FROM body WHERE task = ANY($1::bigint[])";

    // ---- commit ----
    InsertTasks = "WITH id AS (INSERT INTO task_id (id, task) SELECT * FROM unnest($2::text[], $1::bigint[])), \
        text AS (INSERT INTO body (task, doc, payload) SELECT * FROM unnest($12::bigint[], $13::text[], $14::text[])) \
        INSERT INTO task (key, id, class, priority, status, ready, gate, wakes_at, claimed_by, project, state) \
        SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::smallint[], $5::smallint[], $6::boolean[], \
        $7::text[], $8::bigint[], $9::text[], $10::text[], $11::text[])";
    UpdateTasks = "WITH ending AS (INSERT INTO ending (task, doc) SELECT * FROM unnest($10::bigint[], $11::text[]) \
        ON CONFLICT (task) DO UPDATE SET doc = excluded.doc) \
        UPDATE task SET class = new.class, priority = new.priority, status = new.status, ready = new.ready, \
        gate = new.gate, wakes_at = new.wakes_at, claimed_by = new.claimed_by, state = new.state \
        FROM unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::smallint[], $5::boolean[], $6::text[], \
        $7::bigint[], $8::text[], $9::text[]) \
        AS new (key, class, priority, status, ready, gate, wakes_at, claimed_by, state) WHERE task.key = new.key";
    DeleteWants = "DELETE FROM want USING unnest($1::text[], $2::smallint[], $3::bigint[]) AS old (lock, priority, task) \
        WHERE want.lock = old.lock AND want.priority = old.priority AND want.task = old.task";
    InsertWants = "INSERT INTO want (lock, priority, task) SELECT * FROM unnest($1::text[], $2::smallint[], $3::bigint[]) \
        ON CONFLICT DO NOTHING";
    InsertNotes = "INSERT INTO note (task, number, doc) SELECT new.task, \
        (SELECT coalesce(max(number), 0) FROM note WHERE note.task = new.task) \
        + row_number() OVER (PARTITION BY new.task ORDER BY new.place), new.doc \
        FROM unnest($1::bigint[], $2::text[]) WITH ORDINALITY AS new (task, doc, place)";
    InsertOutputs = "INSERT INTO output (task, size, doc) SELECT task, size, doc \
        FROM unnest($1::bigint[], $2::int[], $3::text[]) WITH ORDINALITY AS new (task, size, doc, place) ORDER BY place";
    // The newest pieces that make up the bound stay; older ones go.
    TrimOutputs = "DELETE FROM output USING (SELECT id, sum(size) OVER (PARTITION BY task ORDER BY id DESC) - size AS behind \
        FROM output WHERE task = ANY($1::bigint[])) AS piece WHERE output.id = piece.id AND piece.behind >= $2";
    PutAttempts = "WITH moved AS (UPDATE attempt SET open = new.open, lingers_until = new.lingers_until, \
        lapses_at = new.lapses_at, state = new.state \
        FROM unnest($9::bigint[], $10::bigint[], $11::boolean[], $12::bigint[], $13::bigint[], $14::text[]) \
        AS new (task, number, open, lingers_until, lapses_at, state) \
        WHERE attempt.task = new.task AND attempt.number = new.number) \
        INSERT INTO attempt (task, number, agent, open, external, lingers_until, lapses_at, state) \
        SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::boolean[], $5::boolean[], $6::bigint[], \
        $7::bigint[], $8::text[])";
    PutLines = "INSERT INTO line (task, number, index, scope, hour, resets, model, jobs, tokens_in, tokens_out, \
        tokens_cached, cost, refunded, pull_requests, issues) SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::int[], \
        $4::text[], $5::bigint[], $6::bigint[], $7::text[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], \
        $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[]) \
        ON CONFLICT (task, number, index) DO UPDATE SET jobs = excluded.jobs, tokens_in = excluded.tokens_in, \
        tokens_out = excluded.tokens_out, tokens_cached = excluded.tokens_cached, cost = excluded.cost, \
        refunded = excluded.refunded, pull_requests = excluded.pull_requests, issues = excluded.issues";
    InsertAgents = "INSERT INTO agent (id, room, offline, last_seen, home, state) \
        SELECT * FROM unnest($1::text[], $2::boolean[], $3::boolean[], $4::bigint[], $5::bigint[], $6::text[])";
    UpdateAgents = "UPDATE agent SET room = new.room, offline = new.offline, last_seen = new.last_seen, home = new.home, \
        state = new.state FROM unnest($1::text[], $2::boolean[], $3::boolean[], $4::bigint[], $5::bigint[], $6::text[]) \
        AS new (id, room, offline, last_seen, home, state) WHERE agent.id = new.id";
    DeleteAgents = "DELETE FROM agent WHERE id = ANY($1::text[])";
    MakeScopes = "INSERT INTO scope (name, guarded, version) SELECT name, starts_with(name, 'agent:'), 0 \
        FROM unnest($1::text[]) AS new (name) ORDER BY name COLLATE \"C\" ON CONFLICT DO NOTHING";
    UpdatePolicies = "UPDATE scope SET guarded = new.guarded, policy = new.policy, version = version + 1 \
        FROM unnest($1::text[], $2::boolean[], $3::text[]) AS new (name, guarded, policy) WHERE scope.name = new.name";
    UpdateCounters = "UPDATE scope SET counter = new.counter::bigint[] FROM unnest($1::text[], $2::text[]) \
        AS new (name, counter) WHERE scope.name = new.name";
    // As long as nobody else writes them: where a row is not as it was read, or the lane is another's, it divides by zero.
    TurnAtOnce = "WITH turn AS (UPDATE server SET turn = $2, vouched_at = greatest(vouched_at, $3) \
        WHERE id = $1 AND lane IS NOT NULL RETURNING set_config('lock_timeout', $4, true)), \
        written AS (UPDATE scope SET counter = new.counter::bigint[] \
        FROM unnest($5::text[], $6::bigint[], $7::text[], $8::text[]) AS new (name, version, before, counter) \
        WHERE scope.name = new.name AND scope.version = new.version \
        AND scope.counter IS NOT DISTINCT FROM new.before::bigint[] RETURNING 1) \
        SELECT 1 / ((SELECT count(*) FROM turn) = 1 AND (SELECT count(*) FROM written) = cardinality($5::text[]))::int";
    LockScopes = "SELECT name, version, policy, counter FROM scope WHERE name = ANY($1::text[]) \
        ORDER BY name COLLATE \"C\" FOR UPDATE";
    PutExperiences = concat!("INSERT INTO experience (digest, model, labels, samples) \
        SELECT ", digest!("labels"), " AS digest, model, labels, samples \
        FROM unnest($1::text[], $2::text[], $3::text[]) AS new (labels, model, samples) ORDER BY digest, model \
        ON CONFLICT (digest, model) DO UPDATE SET samples = excluded.samples");
    InsertLocks = "INSERT INTO lock (name, task, number) SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[])";
    UpdateLocks = "UPDATE lock SET task = new.task, number = new.number \
        FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS new (name, task, number) WHERE lock.name = new.name";
    DeleteLocks = "DELETE FROM lock WHERE name = ANY($1::text[])";
    PutEdges = "INSERT INTO edge (dependency, dependent, state) SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::smallint[]) \
        ON CONFLICT (dependency, dependent) DO UPDATE SET state = excluded.state";
    InsertReplays = "INSERT INTO replay (token, key, digest, at, answer) \
        SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bigint[], $5::text[])";
    DeleteReplays = "DELETE FROM replay USING unnest($1::text[], $2::text[]) AS old (token, key) \
        WHERE replay.token = old.token AND replay.key = old.key";
    ForgetReplays = "DELETE FROM replay WHERE (token, key) IN (SELECT token, key FROM replay WHERE at < $1 LIMIT $2 \
        FOR UPDATE SKIP LOCKED)";
    InsertJobs = "INSERT INTO job (id, task, number) SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[])";
    UpdateJobs = "UPDATE job SET task = new.task, number = new.number \
        FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS new (id, task, number) WHERE job.id = new.id";
    PutToken = "INSERT INTO token (name, digest, roles, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT (name) DO UPDATE \
        SET digest = excluded.digest, roles = excluded.roles, created_at = excluded.created_at";
    DeleteToken = "DELETE FROM token WHERE name = $1";
    InsertWebhook = "INSERT INTO webhook (name, document) VALUES ($1, $2)";
    UpdateWebhook = "UPDATE webhook SET document = $2 WHERE name = $1";
    DeleteWebhook = "DELETE FROM webhook WHERE name = $1";
    PutDeliveries = "INSERT INTO delivery (webhook, seq, attempts, due_at, error) \
        SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[]) \
        ON CONFLICT (webhook, seq) DO UPDATE SET attempts = excluded.attempts, due_at = excluded.due_at, \
        error = excluded.error";
    DeleteDeliveries = "DELETE FROM delivery USING unnest($1::text[], $2::bigint[]) AS old (webhook, seq) \
        WHERE delivery.webhook = old.webhook AND delivery.seq = old.seq";
    DeleteDeliveriesOf = "DELETE FROM delivery WHERE webhook = $1";
    Turn = "UPDATE server SET turn = $2, vouched_at = greatest(vouched_at, $3) WHERE id = $1 AND lane IS NOT NULL \
        RETURNING set_config('lock_timeout', $4, true)";
    // The last statement before the COMMIT: from here on no other turn comes in between.
    Events = "WITH head AS (UPDATE event_head SET seq = seq + $1, at = greatest(at, $2) RETURNING seq - $1 AS before), \
        written AS (INSERT INTO event (seq, kind, task, task_id, agent, at, origin, payload) \
        SELECT head.before + new.place, new.kind, new.task, new.task_id, new.agent, new.at, $3, new.payload FROM head, \
        unnest($4::text[], $5::bigint[], $6::text[], $7::text[], $8::bigint[], $9::text[]) \
        WITH ORDINALITY AS new (kind, task, task_id, agent, at, payload, place)) \
        SELECT before + $1 FROM head";
}

"""What Schemathesis is told beside its own checks: the shape of errors, and what may be refused.

Its own checks of valid and invalid data go by status alone. Here the slug decides, which says more: a request that
keeps to the description may be refused for how things stand (`wrong_state`, `unknown_dependency`), never for how it is
written (`invalid_field`); one that does not must not do anything.
"""

import hashlib
import json
import os
import re

import schemathesis
from schemathesis.core import NOT_SET

ERROR_FIELDS = {"code": int, "message": str, "details": str, "error": str, "retryable": bool}
# Refusals of how a request is written.
WRITTEN_WRONG = {"malformed_json", "bad_request", "invalid_field", "unsupported_media_type", "method_not_allowed"}
# What a description cannot say, by what the refusal says.
UNSAYABLE = re.compile(
    r"lies before 1970"
    r"|must not be `\.` or `\.\.`"
    r"|as in the path, or be left out"
    r"|has a limit already"
    r"|is reserved: `adjutant up`"
    # No calendar has every time that the format can write.
    r"|is not a time"
    r"|must have at most \d+ characters"
    # Less than a nano-dollar is nothing.
    r"|a limit is at least 1"
    # A number that is counted is written without a fraction, which JSON Schema does not tell from one with `.0`.
    r"|invalid type: floating point"
    # What goes together, and what a name service says.
    r"|^(protocol|url): is missing|^token_env: needs a url|^session: has no place beside url"
    r"|^url: (is not a URL|has no host|`.*` (cannot be found|is at))"
    # What one place needs and another does not, of the same shape: batches, and tokens that know for whom they speak.
    r"|\bid: (is missing|must not be empty)|agent_id: must not be empty"
    # What a server fills in is ignored where it is sent, if it has the right type.
    r"|(held_cost|held_tokens|active_jobs): |use\["
)
# Refusals of the request as a whole, which any of them can meet.
NOWHERE = {"not_found", "method_not_allowed"}
# Ids that exist when a run begins: those that are made up are nearly always unknown.
TALLY = os.environ.get("ADJUTANT_TALLY")
KNOWN = json.loads(os.environ.get("ADJUTANT_KNOWN", "{}"))


def operation_of(case):
    return case.operation.schema.raw_schema["paths"][case.operation.path][case.operation.method.lower()]


def documented(case, status):
    """The slugs that the description lists for an operation and a status."""
    response = operation_of(case)["responses"].get(str(status), {})
    return set(re.findall(r"`([a-z_]+)`", response.get("description", "")))


def is_another_request(case, response):
    """Whether something else than the operation was asked: another method, or a path that leads elsewhere."""
    request = response.request
    return request.method.upper() != case.operation.method.upper() or case.method.upper() != case.operation.method.upper()


def items(value):
    """The outcomes of the items of a batch, or of what a sync hands in."""
    if isinstance(value, dict):
        value = value.get("done")
    if isinstance(value, list):
        return [item for item in value if isinstance(item, dict) and isinstance(item.get("status"), int)]
    return []


def check_error(body, status, slugs, where):
    assert isinstance(body, dict), f"{where}: an error is no object"
    for field, kind in ERROR_FIELDS.items():
        assert type(body.get(field)) is kind, f"{where}: `{field}` of an error is {body.get(field)!r}"
    assert body["code"] == status, f"{where}: `code` is {body['code']}, the status {status}"
    assert body["error"] in slugs, f"{where}: {status} `{body['error']}` is not described for this operation"
    assert body["message"], f"{where}: no message"


@schemathesis.check
def errors_are_described(ctx, response, case):
    tally(case, response)
    slugs = documented(case, response.status_code)
    if response.status_code >= 400:
        if is_another_request(case, response) or response.status_code == 404:
            slugs = slugs | NOWHERE
        if case.method.upper() != "HEAD":
            check_error(response.json(), response.status_code, slugs, "the answer")
        waits = bool(response.headers.get("retry-after"))
        assert waits == (response.status_code in (429, 503)), "Retry-After goes with 429 and 503"
    elif response.content and "json" in str(response.headers.get("content-type")):
        for index, item in enumerate(items(response.json())):
            if item["status"] >= 400:
                check_error(item.get("error"), item["status"], documented(case, item["status"]), f"item {index}")
    return None


def tally(case, response):
    """Notes what was answered, for the summary."""
    if not TALLY:
        return
    body = response.json() if response.status_code >= 400 and response.content else {}
    mode = "valid" if is_of("positive", case) else "invalid"
    line = [f"{case.operation.method.upper()} {case.operation.path}", mode, response.status_code, body.get("error")]
    with open(TALLY, "a") as file:
        file.write(json.dumps(line) + "\n")


def is_of(mode, case):
    meta = case.meta
    return meta is not None and getattr(meta.generation.mode, f"is_{mode}")


@schemathesis.check
def what_is_described_is_understood(ctx, response, case):
    if not is_of("positive", case) or is_another_request(case, response) or case.method.upper() == "HEAD":
        return None
    if response.status_code < 400:
        answers = [item.get("error") or {} for item in items(response.json())] if is_batch(case) else []
    else:
        answers = [response.json()]
    for body in answers:
        refused = body.get("error") in WRITTEN_WRONG and not UNSAYABLE.search(body["message"])
        assert not refused, f"valid by the description, refused: {body['message']}"
    return None


def is_batch(case):
    return case.operation.path.startswith("/api/batch/") or case.operation.path.endswith("/sync")


@schemathesis.check
def what_is_not_described_does_nothing(ctx, response, case):
    if not is_of("negative", case) or is_another_request(case, response) or is_batch(case):
        return None
    # Headers and parameters that nobody described are ignored, as fields are.
    wrong = [str(place).rsplit(".", 1)[-1].lower() for place, part in case.meta.components.items() if part.mode.is_negative]
    if not any(place in ("body", "path", "path_parameters", "query") for place in wrong):
        return None
    # A parameter without a value counts as absent: forms send what was not filled in like that.
    if re.search(r"[?&][^&=]*(=?&|=?$)", response.request.url):
        return None
    data = case.meta.phase.data
    words = str(getattr(data, "description", "") or "").lower()
    if "unexpected" in words or "additionalproperties" in words or "unknown" in words or "duplicate" in words:
        return None
    assert response.status_code >= 400, f"invalid by the description, accepted: {words or wrong}"
    return None


def chosen(case, names):
    """One of these names, the same for the same case."""
    text = json.dumps([case.path_parameters, case.query, None if case.body is NOT_SET else case.body], default=str)
    number = int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:4], "big")
    return names[number % len(names)] if number % 4 else None


@schemathesis.hook
def map_case(context, case):
    path = case.operation.path
    # A stream has no end.
    if path == "/api/events":
        case.headers["Accept"] = "application/json"
    # A roll-call that waits long is one that waits.
    if path.endswith("/sync") and isinstance(case.body, dict):
        wait = case.body.get("wait")
        if isinstance(wait, (int, float)) and not isinstance(wait, bool) and wait > 0.05:
            case.body["wait"] = 0.05
    # What a list of tokens showed is tried elsewhere too: the run must not lock itself out.
    if path == "/api/tokens/{name}" and case.path_parameters.get("name") in ("admin", "submit"):
        case.path_parameters["name"] = "gone"
    kind = path.split("/")[2] if path.startswith("/api/") else ""
    if is_of("positive", case) and "id" in (case.path_parameters or {}) and KNOWN.get(kind):
        name = chosen(case, KNOWN[kind])
        if name:
            case.path_parameters["id"] = name
            if kind == "tasks" and isinstance(case.body, dict):
                case.body.pop("id", None)
    # The webhook that exists is not removed, and nothing is sent where it leads, though a list showed its name.
    if path.startswith("/api/webhooks/{name}") and KNOWN.get("webhooks"):
        if case.method.upper() == "DELETE" or path.endswith("/test"):
            if case.path_parameters.get("name") in KNOWN["webhooks"]:
                case.path_parameters["name"] = "gone"
        elif is_of("positive", case):
            case.path_parameters["name"] = chosen(case, KNOWN["webhooks"]) or case.path_parameters["name"]
    return case

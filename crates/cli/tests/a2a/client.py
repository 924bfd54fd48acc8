"""Work handed to a fleet by the official Python SDK of Agent2Agent.

The environment says where: ADJUTANT_URL, and ADJUTANT_TOKEN with the role `submit`. An agent with the capability `echo`
completes what it is given with the title of the task as output; nobody does what needs `nobody`.
"""

import asyncio
import os
import uuid

import httpx
from a2a.client import ClientConfig, create_client
from a2a.types import a2a_pb2 as pb
from a2a.utils.errors import (
    InvalidParamsError,
    PushNotificationNotSupportedError,
    TaskNotCancelableError,
    TaskNotFoundError,
    UnsupportedOperationError,
)

URL = os.environ["ADJUTANT_URL"]
TOKEN = os.environ["ADJUTANT_TOKEN"]


def request(text, label="echo", context="", **fields):
    message = pb.Message(message_id=str(uuid.uuid4()), role=pb.ROLE_USER, context_id=context)
    message.parts.add(text=text)
    message.parts.add().data.struct_value.update({"to": ["the", "world"]})
    sent = pb.SendMessageRequest(message=message)
    sent.metadata.update({"adjutant": {"labels": [label], "max_retries": 1, **fields}})
    return sent


async def client(**config):
    http = httpx.AsyncClient(headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60)
    config = ClientConfig(httpx_client=http, supported_protocol_bindings=["HTTP+JSON"], **config)
    return await create_client(URL, config)


async def only(events):
    (event,) = [event async for event in events]
    return event.task


async def refused(error, awaitable):
    try:
        await awaitable
    except error as told:
        assert told.message, told
        return told
    raise AssertionError(f"{error.__name__} was expected")


def text(artifact):
    return artifact.parts[0].text


async def card():
    async with httpx.AsyncClient() as anyone:
        card = (await anyone.get(f"{URL}/.well-known/agent-card.json")).json()
    assert [skill["id"] for skill in card["skills"]] == ["echo"], card


async def blocking():
    one = await client(streaming=False)
    sent = request("Say hello\nto everyone", context="talk", estimated_tokens=10)
    task = await only(one.send_message(sent))
    assert task.status.state == pb.TASK_STATE_COMPLETED, task
    assert task.context_id == "talk", task
    assert [text(artifact) for artifact in task.artifacts] == ["Say hello"], task
    assert task.history[0].parts[0].text == "Say hello\nto everyone", task
    again = await only(one.send_message(sent))
    assert again.id == task.id, "the same message is the same task"
    read = await one.get_task(pb.GetTaskRequest(id=task.id, history_length=0))
    assert read.id == task.id and not read.history, read
    assert read.status.timestamp.seconds > 0, read
    await refused(TaskNotCancelableError, one.cancel_task(pb.CancelTaskRequest(id=task.id)))


async def streaming():
    one = await client()
    events = [event async for event in one.send_message(request("Stream it"))]
    kinds = [event.WhichOneof("payload") for event in events]
    assert kinds[0] == "task" and kinds[-1] == "status_update", kinds
    assert kinds.count("artifact_update") == 1, kinds
    assert text(events[-2].artifact_update.artifact) == "Stream it", events
    assert events[-1].status_update.status.state == pb.TASK_STATE_COMPLETED, events


async def waiting():
    one = await client(polling=True, streaming=False)
    task = await only(one.send_message(request("Wait", label="nobody", context="waits")))
    assert task.status.state == pb.TASK_STATE_SUBMITTED, task
    assert "nobody" in task.status.message.parts[0].text, task

    # The SDK follows only with a client that may stream.
    follower = await client()
    followed = follower.subscribe(pb.SubscribeToTaskRequest(id=task.id))
    first = await anext(followed)
    assert first.task.id == task.id, first
    listed = await one.list_tasks(pb.ListTasksRequest(context_id="waits", page_size=10))
    assert [task.id for task in listed.tasks] == [task.id], listed
    cancelled = await one.cancel_task(pb.CancelTaskRequest(id=task.id))
    assert cancelled.status.state == pb.TASK_STATE_CANCELED, cancelled
    rest = [event async for event in followed]
    assert rest[-1].status_update.status.state == pb.TASK_STATE_CANCELED, rest

    more = request("And this", label="nobody")
    more.message.task_id = task.id
    await refused(UnsupportedOperationError, only(one.send_message(more)))
    await refused(TaskNotFoundError, one.get_task(pb.GetTaskRequest(id="nope")))
    await refused(InvalidParamsError, only(one.send_message(request("x", priority="urgent"))))
    config = pb.TaskPushNotificationConfig(task_id=task.id, url="https://example.com")
    await refused(PushNotificationNotSupportedError, one.create_task_push_notification_config(config))


async def pages():
    one = await client()
    seen, token = [], ""
    while True:
        page = await one.list_tasks(pb.ListTasksRequest(page_size=1, page_token=token, include_artifacts=True))
        seen += page.tasks
        token = page.next_page_token
        if not token:
            break
    assert len(seen) == page.total_size == 3, seen
    done = await one.list_tasks(pb.ListTasksRequest(status=pb.TASK_STATE_COMPLETED))
    assert len(done.tasks) == 2, done


async def main():
    await card()
    await blocking()
    await streaming()
    await waiting()
    await pages()
    print("spoke A2A")


asyncio.run(main())

"""A life of a task, told to adjutant by the official Python SDK of the Model Context Protocol.

usage: client.py TRANSPORT MODE

TRANSPORT is http or stdio, MODE is what the SDK calls it: legacy shakes hands (2025-11-25), auto discovers (2026-07-28).
The environment says where: ADJUTANT_URL, ADJUTANT_TOKEN (of the agent NAME), NAME, ADJUTANT_BINARY. The task `mine` waits
for the agent, and another agent holds the task `theirs`.
"""

import asyncio
import os
import sys

from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

URL = os.environ["ADJUTANT_URL"]
TOKEN = os.environ["ADJUTANT_TOKEN"]
NAME = os.environ["NAME"]
TOOLS = {
    "register",
    "next_task",
    "update_task",
    "report_usage",
    "complete_task",
    "release_task",
    "check_allowance",
    "get_task",
}


def transport(kind):
    if kind == "stdio":
        return StdioServerParameters(
            command=os.environ["ADJUTANT_BINARY"],
            args=["mcp"],
            env={"ADJUTANT_URL": URL, "ADJUTANT_TOKEN": TOKEN},
        )
    http = create_mcp_http_client(headers={"Authorization": f"Bearer {TOKEN}"})
    return streamable_http_client(f"{URL}/mcp", http_client=http)


async def done(client, tool, **arguments):
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, (tool, result)
    assert result.content[0].text, tool
    return result.structured_content


async def refused(client, slug, word, tool, **arguments):
    result = await client.call_tool(tool, arguments)
    text = result.content[0].text
    assert result.is_error, (tool, text)
    assert result.structured_content["error"] == slug, (tool, result)
    assert f"[{slug}]" in text and word in text, (tool, text)


async def live(client):
    assert client.server_info.name == "adjutant", client.server_info
    listed = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert set(listed) == TOOLS, set(listed)
    assert listed["get_task"].annotations.read_only_hint is True
    assert listed["complete_task"].annotations.destructive_hint is True
    assert "task_id" in listed["complete_task"].input_schema["required"]

    await refused(client, "agent_not_found", "register", "next_task")
    registered = await done(client, "register", capabilities=["python"], name="The SDK")
    assert registered["agent"]["id"] == NAME, registered
    given = await done(client, "next_task", wait=10)
    (task,) = given["tasks"]
    assert (task["task_id"], task["attempt"]) == ("mine", 1), given
    assert task["task"]["payload"] == {"to": ["the", "world"]}, task

    # Whoever forgot is told again, and nothing is lost.
    (again,) = (await done(client, "next_task", wait=0))["tasks"]
    assert again["resumed"] and (again["task_id"], again["attempt"]) == ("mine", 1), again

    updated = await done(client, "update_task", task_id="mine", attempt=1, progress=50, notes="half")
    assert updated["task"]["progress"] == 50 and updated["stop"] == [], updated
    await done(client, "report_usage", task_id="mine", attempt=1, model="m", tokens_in=20, tokens_out=10, total=True)
    check = await done(client, "check_allowance")
    assert check["check"]["allowed"] is True, check

    await refused(client, "not_holder", "", "complete_task", task_id="theirs", success=True)
    await refused(client, "forbidden", "", "get_task", task_id="theirs")
    await refused(client, "forbidden", "create_task", "create_task", title="Not mine to give")
    await refused(client, "forbidden", "other", "next_task", agent_id="other")
    await refused(client, "invalid_field", "task_id", "complete_task", success=True)
    await refused(client, "invalid_field", "success", "complete_task", task_id="mine", success="perhaps")
    await refused(client, "invalid_field", "percent", "update_task", task_id="mine", percent=1)
    await refused(client, "invalid_field", "progress", "update_task", task_id="mine", progress=101)

    # A wait for work holds up nothing else.
    waits = asyncio.create_task(
        client.call_tool("next_task", {"running": [{"task_id": "mine", "attempt": 1}], "wait": 30})
    )
    await done(client, "get_task", task_id="mine")
    assert not waits.done()
    completed = await done(
        client, "complete_task", task_id="mine", attempt=1, success=True, output="done", artifacts=["a.txt"]
    )
    assert completed["task"]["status"] == "completed", completed
    waits.cancel()
    try:
        await waits
    except asyncio.CancelledError:
        pass
    over = await done(client, "get_task", task_id="mine")
    assert over["task"]["result"]["output"] == "done", over
    assert over["task"]["usage"]["tokens_in"] == 20, over


async def main(kind, mode):
    async with Client(transport(kind), mode=mode) as client:
        await live(client)
        print(f"spoke {client.protocol_version}")


asyncio.run(main(*sys.argv[1:]))

"""An agent of the official SDK: it says the text back in capitals, fails on "fail", and works for ever on "wait".

Prints its URL once it can be reached. The argument is the binding: `rest` or `rpc`.
"""

import asyncio
import socket
import sys

import uvicorn
from a2a.server.agent_execution import AgentExecutor
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes, create_rest_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import AgentCapabilities, AgentCard, AgentInterface, AgentSkill, Part, Task, TaskState, TaskStatus
from starlette.applications import Starlette


class Shouter(AgentExecutor):
    async def execute(self, context, event_queue):
        await event_queue.enqueue_event(
            Task(
                id=context.task_id,
                context_id=context.context_id,
                status=TaskStatus(state=TaskState.TASK_STATE_SUBMITTED),
            )
        )
        task = TaskUpdater(event_queue, context.task_id, context.context_id)
        text = context.get_user_input()
        await task.start_work(task.new_agent_message([Part(text="drawing breath")]))
        await asyncio.sleep(0.5)
        if text == "wait":
            await asyncio.sleep(3600)
        if text == "fail":
            await task.failed(task.new_agent_message([Part(text="lost my voice")]))
            return
        await task.add_artifact([Part(text=text.upper())], name="shout")
        await task.complete()

    async def cancel(self, context, event_queue):
        print("cancelled", flush=True)
        await TaskUpdater(event_queue, context.task_id, context.context_id).cancel()


def main():
    binding = {"rest": "HTTP+JSON", "rpc": "JSONRPC"}[sys.argv[1]]
    listener = socket.create_server(("127.0.0.1", 0))
    base = f"http://127.0.0.1:{listener.getsockname()[1]}"
    url = base if sys.argv[1] == "rest" else f"{base}/rpc"
    card = AgentCard(
        name="shouter",
        description="Says it louder",
        version="1",
        capabilities=AgentCapabilities(),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        skills=[AgentSkill(id="shout", name="shout", description="Says it louder", tags=["shout"])],
        supported_interfaces=[AgentInterface(url=url, protocol_binding=binding, protocol_version="1.0")],
    )
    handler = DefaultRequestHandler(Shouter(), InMemoryTaskStore(), card)
    routes = create_agent_card_routes(card)
    routes += create_rest_routes(handler) if sys.argv[1] == "rest" else create_jsonrpc_routes(handler, "/rpc")
    server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), log_level="error"))
    print(base, flush=True)
    asyncio.run(server.serve(sockets=[listener]))


main()

"""The tools as a server of the Model Context Protocol, by its SDK."""

from __future__ import annotations

from typing import Any

import anyio.to_thread
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
    ToolAnnotations,
)

from lightretriever import __version__
from lightretriever.serving.access.keys import ANYONE, Key
from lightretriever.serving.mcp.tools import Described, Tools

KEY = "lightretriever_key"
"""In the state of a request over HTTP: who sent it."""
_READS = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)

Context = ServerRequestContext[Any, Any]


def make_server(tools: Tools) -> Server[Any]:
    """A server of these tools, for any of the SDK's transports. Calls run in threads: they hold nobody up."""

    async def list_tools(context: Context, _: PaginatedRequestParams | None) -> ListToolsResult:
        described = await anyio.to_thread.run_sync(tools.described, _who(context))
        return ListToolsResult(tools=[_tool(each) for each in described])

    async def call_tool(context: Context, asked: CallToolRequestParams) -> CallToolResult:
        if asked.name not in tools.schemas:
            there = ", ".join(tools.schemas)
            raise MCPError(code=INVALID_PARAMS, message=f"there is no tool {asked.name[:80]!r}: call one of {there}")
        answered = await anyio.to_thread.run_sync(tools.call, asked.name, asked.arguments or {}, _who(context))
        return CallToolResult(
            content=[TextContent(type="text", text=answered.text)],
            structured_content=answered.data,
            is_error=answered.data is None,
        )

    return Server(
        "lightretriever",
        version=__version__,
        title=f"Search {tools.title}",
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        get_tool_input_schema=tools.schemas.get,
    )


def _who(context: Context) -> Key:
    return ANYONE if context.request is None else getattr(context.request.state, KEY, ANYONE)


def _tool(each: Described) -> Tool:
    return Tool(
        name=each.name,
        title=each.title,
        description=each.description,
        input_schema=each.takes,
        output_schema=each.gives,
        annotations=_READS,
    )

"""Serve a model over the OpenAI API and ask it with the official ``openai`` client.

``python examples/openai_server.py [MODEL.gguf]``; in daily use, ``tilewright serve MODEL.gguf`` is
the server, and any OpenAI client takes its address as ``base_url``.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvicorn
from openai import AsyncOpenAI

from tilewright.serve.chat import ChatModel
from tilewright.serve.openai.app import create_openai_app

BUNDLED = Path(__file__).resolve().parents[1] / "web/public/models/tilewright-tiny.gguf"


async def ask(address: str) -> None:
    """Stream one answer and print it."""
    async with AsyncOpenAI(base_url=f"{address}/v1", api_key="none is needed") as client:
        model = (await client.models.list()).data[0].id
        stream = await client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": "Tell me a story about a fox."}],
            max_tokens=60,
            temperature=0.7,
            seed=1,
            stream=True,
        )
        async for chunk in stream:
            for choice in chunk.choices:
                print(choice.delta.content or "", end="", flush=True)
    print()


async def main(model: str = str(BUNDLED)) -> None:
    """Load, serve on a free port of this machine, ask, stop."""
    engine = await ChatModel.load(model)
    config = uvicorn.Config(create_openai_app(engine), port=0, log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        await ask(f"http://127.0.0.1:{port}")
    finally:
        server.should_exit = True
        await task
        await engine.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:2]))

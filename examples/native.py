"""Load a model natively, stream a story: ``python examples/native.py [MODEL.gguf] [QUESTION]``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tilewright import Engine

BUNDLED = Path(__file__).resolve().parents[1] / "web/public/models/tilewright-tiny.gguf"


async def main(model: str = str(BUNDLED), question: str = "Tell me a story about a fox.") -> None:
    """Print the answer as it is made, then what it cost."""
    async with await Engine.load(model) as engine:
        options = {"temperature": 0.7, "seed": 1, "max_tokens": 200}
        usage = {"stream_options": {"include_usage": True}}
        async for chunk in engine.chat(question, **options, **usage):
            for choice in chunk.choices:
                print(choice.delta.get("content") or "", end="", flush=True)
            if chunk.usage is not None:
                speed = chunk.usage.x_tilewright.tokens_per_second
                print(f"\n\n{speed:.1f} tokens/s", file=sys.stderr)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))

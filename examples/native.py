"""Load a model natively, stream a story: ``python examples/native.py [MODEL.gguf] [QUESTION]``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tilewright.engine.sampling import SamplingParams
from tilewright.serve.chat import ChatModel

BUNDLED = Path(__file__).resolve().parents[1] / "web/public/models/tilewright-tiny.gguf"


async def main(model: str = str(BUNDLED), question: str = "Tell me a story about a fox.") -> None:
    """Print the answer as it is made, then what it cost."""
    engine = await ChatModel.load(model)
    try:
        messages = [{"role": "user", "content": question}]
        sampling = SamplingParams(temperature=0.7, seed=1, max_tokens=200)
        async for delta in engine.complete(messages, sampling):
            print(delta.text, end="", flush=True)
            if delta.usage is not None:
                print(f"\n\n{delta.usage.tokens_per_second:.1f} tokens/s", file=sys.stderr)
    finally:
        await engine.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))

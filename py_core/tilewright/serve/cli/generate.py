"""``tilewright run`` and ``tilewright chat``."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any

from ...engine.sequence import TokenOutput
from ...errors import TilewrightError
from ..chat import ChatModel, Usage
from . import options


def add_commands(commands: Any) -> None:
    """Add the subcommands of this module."""
    run = commands.add_parser("run", help="complete a prompt, streaming the text")
    options.add_model(run)
    options.add_backend(run)
    run.add_argument(
        "prompt", metavar="PROMPT", help="the text to go on with; - for standard input"
    )
    run.add_argument("--chat", action="store_true", help="PROMPT is a user's message")
    run.add_argument("--system", help="with --chat: the system message")
    run.add_argument("--json", action="store_true", help="one object: ids, text, usage, timings")
    options.add_sampling(run)
    run.set_defaults(run=_run)
    chat = commands.add_parser("chat", help="talk to a model in the terminal")
    options.add_model(chat)
    options.add_backend(chat)
    chat.add_argument("--system", help="the system message")
    options.add_sampling(chat)
    chat.set_defaults(run=_chat)


async def _run(arguments: argparse.Namespace) -> None:
    from . import print_json

    model = await options.load(arguments)
    text = options.read_text("-") if arguments.prompt == "-" else arguments.prompt
    prompt: Any = text
    if arguments.chat:
        prompt = [{"role": "user", "content": text}]
        if arguments.system:
            prompt.insert(0, {"role": "system", "content": arguments.system})
    pieces: list[str] = []
    tokens: list[TokenOutput] = []
    usage, finish = Usage(), None
    try:
        async for delta in model.complete(
            prompt, options.sampling_of(arguments), stop=arguments.stop
        ):
            pieces.append(delta.text)
            tokens.extend(delta.tokens)
            usage, finish = delta.usage or usage, delta.finish_reason
            if not arguments.json:
                print(delta.text, end="", flush=True)
        if not arguments.json:
            print()
            return
        print_json(
            {
                "model": model.name,
                "prompt_ids": model.prompt_ids(prompt),
                "ids": [token.id for token in tokens],
                "text": "".join(pieces),
                "finish_reason": finish,
                "logprobs": [
                    {"id": t.id, "logprob": t.logprob, "top": [list(pair) for pair in t.top]}
                    for t in tokens
                    if t.logprob is not None
                ],
                "usage": usage.to_dict(),
                "timings": model.stats(),
            }
        )
    finally:
        await model.close()


async def _chat(arguments: argparse.Namespace) -> None:
    model = await options.load(arguments)
    print("Type a message; an empty line or Ctrl-D ends, Ctrl-C stops an answer.", file=sys.stderr)
    messages: list[dict[str, Any]] = []
    if arguments.system:
        messages.append({"role": "system", "content": arguments.system})
    try:
        while True:
            try:
                line = await asyncio.to_thread(input, "> ")
            except EOFError:
                break
            if not line.strip():
                break
            messages.append({"role": "user", "content": line})
            try:
                answer = await _answer(model, messages, arguments)
            except TilewrightError as error:
                messages.pop()
                print(f"{error.message} [{error.code}]", file=sys.stderr)
                continue
            messages.append({"role": "assistant", "content": answer})
    finally:
        await model.close()


async def _answer(
    model: ChatModel, messages: list[dict[str, Any]], arguments: argparse.Namespace
) -> str:
    pieces: list[str] = []
    usage = Usage()
    sampling = options.sampling_of(arguments)
    async for delta in model.complete(messages, sampling, stop=arguments.stop):
        pieces.append(delta.text)
        usage = delta.usage or usage
        print(delta.text, end="", flush=True)
    print(f"\n  [{usage.completion_tokens} tokens, {usage.tokens_per_second:.1f}/s]")
    return "".join(pieces)

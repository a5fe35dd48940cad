"""A loaded model that talks: the one place where the engine's ids and the text meet.

``ChatModel`` owns the model file's description, its tokenizer, its chat template and the engine. It
turns messages or a prompt into ids, runs them, and turns the ids back into text deltas, with stop
strings, usage and timings. It knows nothing of HTTP, of the worker protocol or of OpenAI's shapes.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple, cast

from ..engine import prepared, wasm_tuning
from ..engine.backend import Backend, choose, still_cpu
from ..engine.early_tuning import EarlyTuning
from ..engine.engine import Engine, Generation
from ..engine.runner import ModelRunner
from ..engine.sampling import Constraint, SamplingParams
from ..engine.sequence import TokenOutput
from ..engine.tuning import ModelTuning, default_store
from ..engine.wasm_runner import WasmRunner
from ..errors import (
    DeviceUnavailableError,
    InvalidRequestError,
    OutOfMemoryError,
    TemplateError,
    TilewrightError,
    UnsupportedModelError,
)
from ..formats.model_file import ModelFile
from ..formats.open import FindFile, open_model
from ..formats.source import ByteSource
from ..settings import current
from ..text.chat_template import ChatTemplate
from ..text.tokenizer import Tokenizer
from ..tuning.store import Storage
from ..wasm.host import here
from ..webgpu.device import Device
from ..webgpu.memory import OnProgress
from .load_options import LoadOptions as LoadOptions

Message = Mapping[str, Any]


@dataclass(frozen=True)
class Usage:
    """What a completion cost."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    """Prompt tokens whose keys and values were already in the cache."""
    prompt_seconds: float = 0.0
    """From the request to the first token."""
    completion_seconds: float = 0.0
    """From the first token to the last."""

    @property
    def tokens_per_second(self) -> float:
        """Decode speed: tokens after the first, per second."""
        return (
            (self.completion_tokens - 1) / self.completion_seconds
            if (self.completion_tokens > 1 and self.completion_seconds > 0)
            else 0.0
        )

    def to_dict(self) -> dict[str, float | int]:
        """Return the numbers as JSON."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "cached_tokens": self.cached_tokens,
            "time_to_first_token_s": round(self.prompt_seconds, 6),
            "completion_s": round(self.completion_seconds, 6),
            "tokens_per_second": round(self.tokens_per_second, 3),
        }


@dataclass(frozen=True)
class Embedded:
    """Vectors, one per input, and what they cost."""

    vectors: list[list[float]]
    tokens: int


class Delta(NamedTuple):
    """A piece of a completion; the last one carries ``finish_reason`` and ``usage``."""

    text: str
    tokens: tuple[TokenOutput, ...] = ()
    finish_reason: str | None = None
    usage: Usage | None = None


class StopStrings:
    """Finds stop strings in streamed text; holds back what may become one."""

    def __init__(self, stops: Sequence[str]) -> None:
        if any(not stop for stop in stops):
            raise InvalidRequestError("A stop string is empty: leave it out.", field="stop")
        self._stops = tuple(stops)
        self._held = ""

    def push(self, text: str) -> tuple[str, bool]:
        """Return the text that may be shown and whether a stop string was met."""
        if not self._stops:
            return text, False
        self._held += text
        found = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            shown, self._held = self._held[: min(found)], ""
            return shown, True
        keep = 0
        for stop in self._stops:
            for length in range(min(len(stop) - 1, len(self._held)), keep, -1):
                if self._held.endswith(stop[:length]):
                    keep = length
                    break
        cut = len(self._held) - keep
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown, False

    def flush(self) -> str:
        """Return what was held back."""
        shown, self._held = self._held, ""
        return shown


class ChatModel:
    """A model with its tokenizer, chat template and engine."""

    def __init__(
        self,
        file: ModelFile,
        tokenizer: Tokenizer,
        template: ChatTemplate | None,
        runner: ModelRunner | WasmRunner,
        tuning: ModelTuning | None = None,
        remembered: tuple[Storage | None] | None = None,
    ) -> None:
        self.file = file
        self.tokenizer = tokenizer
        self.template = template
        self.runner = runner
        self.tuning = tuning
        """The records that its kernels run by."""
        self._remembered = remembered
        """The storage of the choice of the processor, where an earlier load has made that."""
        self.engine = Engine(runner)
        if tuning is not None:
            tuning.follow(self.engine)

    @classmethod
    async def load(
        cls,
        source: str | os.PathLike[str] | ByteSource | ModelFile,
        *,
        options: LoadOptions | None = None,
        device: Device | None = None,
        storage: Storage | None = None,
        records: str = "",
        on_progress: OnProgress | None = None,
    ) -> ChatModel:
        """Open, check and upload a model; kernels run as the records in ``storage`` say.

        ``records``: a document of tuning records from elsewhere; what was measured here counts
        more, and what was measured on another kind of device does not count.

        Raises FormatError, UnsupportedModelError, SourceError, OutOfMemoryError,
        DeviceUnavailableError.
        """
        options = options or LoadOptions()
        kept: ModelTuning | None = None
        file = source if isinstance(source, ModelFile) else await open_model(source)
        file = as_asked(file, options)
        try:
            tokenizer = load_tokenizer(file)
            template = load_template(file, tokenizer)
            backend: str | None = options.backend or ("webgpu" if device else current().backend)
            runner: ModelRunner | WasmRunner
            ready = prepared.restore(file)
            remembered = None if backend or ready is None else (storage,)
            if remembered is not None:
                # As was chosen then, on this browser and for these options.
                backend, options = "wasm", replace(options, kv=None)
            if not backend:
                try:
                    choice = await choose(storage)
                    backend, device = choice.backend, choice.device
                    if backend == "wasm":
                        asked = replace(options, kv=None)
                        runner, kept = await _load_wasm(file, asked, storage, records, on_progress)
                except (UnsupportedModelError, OutOfMemoryError) as refused:
                    backend, device = "webgpu", await _any_device(refused)
            elif backend == "wasm":
                runner, kept = await _load_wasm(file, options, storage, records, on_progress, ready)
            if backend == "webgpu":
                device = device or await Device.open()
                store = default_store(device, storage)
                known = await store.load(records)
                early = EarlyTuning(known, store)
                runner = await ModelRunner.load(
                    device,
                    file,
                    context_length=options.context_length,
                    kv=options.kv,
                    max_sequences=options.max_sequences,
                    memory_budget=options.memory_budget,
                    arithmetic=options.arithmetic,
                    choose=known.choose,
                    on_progress=on_progress and early.told(on_progress),
                    early=early.on_gpu,
                )
                kept = ModelTuning(runner, store, known, early.kernels)
            elif backend != "wasm":
                raise InvalidRequestError(
                    f"There is no backend {backend[:20]!r}: choose webgpu or wasm.", field="backend"
                )
        except BaseException:
            file.close()
            raise
        return cls(file, tokenizer, template, runner, kept, remembered)

    @property
    def backend(self) -> Backend:
        """Where the arithmetic runs."""
        return "wasm" if isinstance(self.runner, WasmRunner) else "webgpu"

    @property
    def name(self) -> str:
        """The model's own name, or its file's."""
        return name_of(self.file)

    def prompt_ids(
        self,
        prompt: str | Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """Return the ids of a plain prompt, or of messages rendered by the chat template."""
        if isinstance(prompt, str):
            return self.tokenizer.encode(prompt, add_special=True, parse_special=False)
        if self.template is None:
            raise TemplateError(
                "This model has no chat template: give a plain prompt, or a model tuned for chat."
            )
        rendered = self.template.render_prompt(prompt, tools=tools, **(variables or {}))
        return self.tokenizer.encode_prompt(rendered)

    async def complete(
        self,
        prompt: str | Sequence[Message] | Sequence[int],
        sampling: SamplingParams | None = None,
        *,
        stop: Sequence[str] = (),
        tools: Sequence[Mapping[str, Any]] | None = None,
        variables: Mapping[str, Any] | None = None,
        constraint: Constraint | None = None,
    ) -> AsyncIterator[Delta]:
        """Stream the completion of a prompt, of messages, or of token ids.

        Closing the iterator stops the generation. The model's own end tokens end it.
        """
        ids = self._ids(prompt, tools, variables)
        sampling = sampling or SamplingParams()
        if not sampling.ignore_eos:
            sampling = replace(sampling, stop_ids=sampling.stop_ids | self.tokenizer.end_ids)
        generation = self.engine.submit(ids, sampling, constraint=constraint)
        completion = _Completion(self.tokenizer, stop, generation)
        try:
            async for token in generation:
                delta = completion.push([token, *generation.at_hand()])
                yield delta
                if delta.finish_reason:
                    return
        finally:
            generation.cancel()

    def _ids(
        self,
        prompt: str | Sequence[Message] | Sequence[int],
        tools: Sequence[Mapping[str, Any]] | None,
        variables: Mapping[str, Any] | None,
    ) -> list[int]:
        if not isinstance(prompt, str) and prompt and isinstance(prompt[0], int):
            return [token for token in prompt if isinstance(token, int)]
        messages = cast("str | Sequence[Message]", prompt)
        return self.prompt_ids(messages, tools=tools, variables=variables)

    async def embed(self, inputs: Sequence[str] | Sequence[Sequence[int]]) -> Embedded:
        """Return the model's own pooled vectors of texts, or of lists of ids.

        Raises InvalidRequestError for an empty input and for a model that makes no embeddings.
        """
        ids = [
            self.tokenizer.encode(item, add_special=True) if isinstance(item, str) else list(item)
            for item in inputs
        ]
        if not all(ids):
            raise InvalidRequestError("An input is empty.", field="input")
        return Embedded(await self.engine.embed(ids), sum(map(len, ids)))

    async def add_adapter(
        self,
        source: str | os.PathLike[str] | ByteSource,
        name: str | None = None,
        find: FindFile | None = None,
    ) -> str:
        """Load a LoRA adapter beside the model; return the name by which requests choose it.

        ``source``: a GGUF adapter, a PEFT folder, or its adapter_model.safetensors; with a source,
        ``find`` gives the files beside it. ``name``: default the file's, without its suffix.
        Raises FormatError, UnsupportedModelError, SourceError, OutOfMemoryError.
        """
        from ..formats.lora import open_adapter

        adapter = await open_adapter(source, self.file, find)
        adapter = replace(adapter, name=name or adapter.name)
        await self.runner.add_adapter(adapter)
        return adapter.name

    async def remove_adapter(self, name: str) -> None:
        """Forget an adapter. Raises InvalidRequestError where there is none of that name."""
        await self.runner.remove_adapter(name)

    def stats(self) -> dict[str, Any]:
        """Return the counters of the engine and of its plans, and the memory on the device."""
        return {
            **asdict(self.engine.stats()),
            **self.runner.plan_stats(),
            "device_bytes": self.runner.device_bytes,
            "early_tuned": 0 if self.tuning is None else self.tuning.early,
        }

    async def prepare(self) -> None:
        """Compile what the first answer needs, for example while its prompt is being typed."""
        if isinstance(self.runner, ModelRunner):
            await self.runner.prepare()

    async def keep(self) -> None:
        """Keep beside the stored model what makes the next load shorter."""
        if not isinstance(self.runner, WasmRunner):
            return
        if self._remembered is not None and not await still_cpu(*self._remembered):
            await prepared.forget(self.file)  # there is a GPU now: the next load chooses again
        else:
            await prepared.keep(self.file, self.runner)

    @property
    def busy(self) -> bool:
        """Whether anything is computed or waits to be."""
        return self.engine.busy

    async def close(self) -> None:
        """Free the device's memory."""
        await self.engine.close()
        await self.runner.close()
        self.file.close()


async def _any_device(refused: TilewrightError) -> Device:
    """Open a device for what the CPU path refused, however slow; without one, say why it did."""
    try:
        return await Device.open()
    except DeviceUnavailableError:
        raise refused from None


async def _load_wasm(
    file: ModelFile,
    options: LoadOptions,
    storage: Storage | None,
    shipped: str,
    on_progress: OnProgress | None,
    ready: prepared.Prepared | None = None,
) -> tuple[WasmRunner, ModelTuning]:
    machine = here()
    store = wasm_tuning.default_store(machine, storage)
    known = await store.load(shipped)
    early = EarlyTuning(known, store)
    runner = await WasmRunner.load(
        file,
        context_length=options.context_length,
        max_sequences=options.max_sequences,
        threads=options.threads,
        kv=options.kv or "f32",
        memory_budget=options.memory_budget,
        choose=wasm_tuning.chooser(known, machine),
        on_progress=on_progress and early.report(on_progress),
        ready=ready,
        early=early.on_cpu,
    )
    return runner, ModelTuning(runner, store, known, early.kernels)


class _Completion:
    """Turns one generation's tokens into deltas."""

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str], generation: Generation) -> None:
        self._decoder = tokenizer.stream_decoder()
        self._stops = StopStrings(stop)
        self._generation = generation
        self._count = 0

    def push(self, tokens: Sequence[TokenOutput]) -> Delta:
        """Return the piece that these tokens make; those behind a stop string are dropped."""
        shown = ""
        for number, token in enumerate(tokens, 1):
            text, met = "", False
            if token.finish_reason != "stop":
                text, met = self._stops.push(self._decoder.push(token.id))
            shown += text
            if not met and token.finish_reason is None:
                continue
            if not met:
                tail, met = self._stops.push(self._decoder.flush())
                shown += tail + ("" if met else self._stops.flush())
            self._count += number
            reason = "stop" if met else token.finish_reason
            return Delta(shown, tuple(tokens[:number]), reason, self._usage())
        self._count += len(tokens)
        return Delta(shown, tuple(tokens))

    def _usage(self) -> Usage:
        made = self._generation
        first = made.first_token_at or made.submitted_at
        return Usage(
            prompt_tokens=made.prompt_tokens,
            completion_tokens=self._count,
            cached_tokens=made.cached_tokens,
            prompt_seconds=first - made.submitted_at,
            completion_seconds=time.perf_counter() - first,
        )


def as_asked(file: ModelFile, options: LoadOptions) -> ModelFile:
    """Show the file's weights in the format that the options ask for."""
    if options.quantize is None:
        return file
    from ..formats.requantized import requantize
    from ..wasm.encoder import Encoder

    return requantize(file, options.quantize, Encoder().encode)


def name_of(file: ModelFile) -> str:
    """Return a model's own name, or its file's."""
    return str(file.metadata.get("general.name") or file.sources[0].name)


def load_tokenizer(file: ModelFile) -> Tokenizer:
    """Build the tokenizer that the model file carries."""
    return Tokenizer.from_metadata(file.metadata)


def load_template(file: ModelFile, tokenizer: Tokenizer) -> ChatTemplate | None:
    """Return the model's chat template, or None where it has none."""
    source = file.metadata.get("tokenizer.chat_template")
    if not isinstance(source, str) or not source:
        return None
    return ChatTemplate(
        source,
        bos_token=_token_text(tokenizer, tokenizer.bos_id),
        eos_token=_token_text(tokenizer, tokenizer.eos_id),
        special_tokens=tokenizer.control_tokens,
    )


def _token_text(tokenizer: Tokenizer, token_id: int | None) -> str:
    return "" if token_id is None else tokenizer.decode([token_id])

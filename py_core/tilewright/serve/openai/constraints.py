"""From what a request asks to a constraint on the model's tokens; compiled grammars are kept.

Knows the model's tokenizer and template, not how requests come or answers go.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable

from ...errors import InvalidRequestError
from ...text.grammar.code_points import ANY, until, utf8
from ...text.grammar.constraint import CompiledGrammar
from ...text.grammar.expression import Grammar, Node
from ...text.grammar.gbnf import compile_gbnf
from ...text.grammar.schema import SchemaCompiler, any_json_object
from ...text.grammar.vocabulary import TokenVocabulary, vocabulary_of
from ...text.tokenizer import Tokenizer
from .answer import END_THINK, THINK
from .request import ChatRequest
from .tools import Dialect, Tool

MAX_KEPT = 32
ANYTHING = {"type": "object"}
"""What holds for the arguments of a tool that is not strict, where another one is."""


def _strict(request: ChatRequest) -> bool:
    """Whether the model may call, and a call's arguments must then fit their schema."""
    free = request.choice == "auto" and request.format.kind == "text"
    return free and any(tool.strict for tool in request.tools)


class Grammars:
    """Compiles grammars for one model.

    Args:
        tokenizer: of the model.
        size: number of ids that its logits have.

    """

    def __init__(self, tokenizer: Tokenizer, size: int) -> None:
        self._tokenizer = tokenizer
        self._size = size
        self._kept: OrderedDict[str, CompiledGrammar] = OrderedDict()
        self._vocabulary: TokenVocabulary | None = None
        ids = (tokenizer.token_id(text) for text in tokenizer.control_tokens)
        self._control = {token for token in ids if token is not None}

    def gbnf(self, text: str) -> CompiledGrammar:
        """Return a grammar in GBNF."""
        return self._compiled(
            f"gbnf {text}", lambda: compile_gbnf(text, self._tokenizer.token_id), "grammar"
        )

    def chat(
        self, request: ChatRequest, dialect: Dialect | None, *, reasons: bool, opened: bool
    ) -> CompiledGrammar | None:
        """Return what constrains the answer of a chat; None: nothing does."""
        text = request.options.grammar
        if text is not None:
            return self.gbnf(text)
        key: list[object] = [request.format.kind, request.format.schema, reasons, opened]
        if request.choice == "required" and dialect is None:
            raise InvalidRequestError(
                "This model's chat template has no tools that could be required.",
                field="tool_choice",
            )
        if request.choice == "required" or _strict(request):
            key += [request.choice, request.parallel]
            key += [[tool.name, tool.parameters, tool.strict] for tool in request.tools]
        elif request.format.kind == "text":
            return None

        def make() -> Grammar:
            grammar = Grammar()
            body = self._body(grammar, request, dialect)
            grammar.root = self._after_reasoning(grammar, body, reasons=reasons, opened=opened)
            return grammar

        try:
            name = json.dumps(key)
        except (TypeError, ValueError, RecursionError):
            raise InvalidRequestError("The schema is not plain JSON.", field="schema") from None
        return self._compiled(name, make, "schema")

    def _body(self, grammar: Grammar, request: ChatRequest, dialect: Dialect | None) -> Node:
        if request.choice == "required" and dialect is not None:
            return dialect.grammar(grammar, request.tools, self._marker, many=request.parallel)
        if _strict(request) and dialect is not None:
            tools = [tool if tool.strict else Tool(tool.name, ANYTHING) for tool in request.tools]
            return dialect.free_or_calls(grammar, tools, self._marker, many=request.parallel)
        if request.format.kind == "json_object":
            return any_json_object(grammar)
        schema = request.format.schema
        return SchemaCompiler(grammar, schema).compile(schema, "")

    def _after_reasoning(
        self, grammar: Grammar, body: Node, *, reasons: bool, opened: bool
    ) -> Node:
        if not reasons and not opened:
            return body
        token = self._tokenizer.token_id(END_THINK)
        if token in self._control:  # text cannot hold it, so any text may stand before it
            anything = grammar.repeat(utf8(grammar, ANY), 0)
            thought = grammar.sequence([anything, self._marker(grammar, END_THINK)])
        else:
            thought = until(grammar, END_THINK)
        space = grammar.repeat(grammar.literal("\n"), 0, 2)
        if opened:
            return grammar.sequence([thought, space, body])
        begun = grammar.sequence([self._marker(grammar, THINK), thought, space])
        return grammar.sequence([grammar.optional(begun), body])

    def _marker(self, grammar: Grammar, text: str) -> Node:
        token = self._tokenizer.token_id(text)
        if token is not None and token in self._control:
            return grammar.literal(TokenVocabulary.spelling_of(token))
        return grammar.literal(text)

    def _compiled(self, key: str, make: Callable[[], Grammar], what: str) -> CompiledGrammar:
        found = self._kept.get(key)
        if found is None:
            found = CompiledGrammar(make(), self._tokens(), self._encode, what)
            self._kept[key] = found
            if len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return found

    def _tokens(self) -> TokenVocabulary:
        if self._vocabulary is None:
            tokenizer = self._tokenizer
            self._vocabulary = vocabulary_of(
                tokenizer.token_bytes,
                tokenizer.vocabulary_size,
                control=self._control,
                end_ids=tokenizer.end_ids,
                size=self._size,
            )
        return self._vocabulary

    def _encode(self, text: str) -> list[int]:
        """Tokenize text that follows other text: without what is put before a beginning."""
        tokenizer = self._tokenizer
        if not tokenizer.add_space_prefix:
            return tokenizer.encode(text)
        ids = tokenizer.encode("\n" + text)
        lead = b""
        for i, token in enumerate(ids):
            lead += tokenizer.token_bytes(token)
            if lead.endswith(b"\n"):
                return ids[i + 1 :]
        return []

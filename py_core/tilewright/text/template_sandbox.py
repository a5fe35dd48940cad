"""The Jinja environment in which chat templates run: immutable, sandboxed and on a budget.

Renders as Hugging Face transformers does (``apply_chat_template``: trim_blocks, lstrip_blocks, loop
controls, ``tojson`` without HTML escapes, ``raise_exception``, ``strftime_now``, generation
blocks); knows Jinja and the budget, not messages or tokens.
"""

from __future__ import annotations

import json
import re
import types
from collections.abc import Callable, Iterable, Sequence, Sized
from datetime import datetime
from typing import Any, NoReturn, TypeVar

from jinja2 import Template, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.exceptions import TemplateError as JinjaError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from tilewright.text.template_budget import Budget

_MAX_RANGE = 100_000
_BODY = TypeVar("_BODY", nodes.For, nodes.Macro, nodes.CallBlock, nodes.Block)

_STR_METHODS = (
    "capitalize casefold center count endswith expandtabs find format index isalnum isalpha "
    "isascii isdecimal isdigit isidentifier islower isnumeric isprintable isspace istitle isupper "
    "join ljust lower lstrip partition removeprefix removesuffix replace rfind rindex rjust "
    "rpartition rsplit rstrip split splitlines startswith strip swapcase title upper zfill"
)
_METHODS: tuple[tuple[type, frozenset[str]], ...] = (
    (str, frozenset(_STR_METHODS.split(" "))),
    (dict, frozenset(["get", "items", "keys", "values", "copy"])),
    (list, frozenset(["index", "count", "copy"])),
    (tuple, frozenset(["index", "count"])),
    (int, frozenset(["bit_length"])),
    (float, frozenset(["is_integer"])),
    (bytes, frozenset()),
)
"""What may be read of Python's own types; anything else there can cost or reveal too much."""

_DROPPED_FILTERS = ("urlize", "striptags", "wordwrap", "pprint")
"""Jinja's filters that can take time out of proportion to their input."""

_COMPARING_TESTS = (
    "in", "==", "eq", "equalto", "!=", "ne", ">", "gt", "greaterthan", "ge", ">=", "<", "lt",
    "lessthan", "<=", "le", "sameas", "upper", "lower",
)  # fmt: skip


class RefusedError(JinjaError):
    """The template called ``raise_exception``."""


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """Compiles and runs chat templates; ``budget`` is set anew for each rendering."""

    intercepted_binops = frozenset(["+", "-", "*", "/", "//", "**", "%"])

    def __init__(self) -> None:
        # Constants are not folded at compile time, because that runs filters without a budget.
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,
            cache_size=0,
            extensions=[GenerationBlocks, loopcontrols],
        )
        self.budget = Budget(0)
        self.now = datetime.now()
        for name in _DROPPED_FILTERS:
            del self.filters[name]
        self.filters["tojson"] = _to_json
        for name in list(self.filters):
            self.filters[name] = self._guarded_filter(name, self.filters[name])
        tests: dict[str, Any] = self.tests
        for name in _COMPARING_TESTS:
            tests[name] = self._guarded_test(tests[name])
        for payment in (self._round, self._concat, self._operand, self._shown):
            self.filters[payment.__name__] = payment
        del self.globals["lipsum"]
        self.globals |= {
            "range": self._range,
            "raise_exception": _raise_exception,
            "strftime_now": self._strftime_now,
        }

    def compile_metered(self, source: str) -> Template:
        """Compile ``source`` with payments inserted into it.

        Raises:
            jinja2.exceptions.TemplateError: it has an error.

        """
        tree = _Meter().visit(self.parse(source))
        tree.set_environment(self)
        code = self.compile(tree, name="chat template", filename="<chat template>")
        return self.template_class.from_code(self, code, self.make_globals(None))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Allow only known attributes of Python's own types."""
        if not super().is_safe_attribute(obj, attr, value):
            return False
        for kind, allowed in _METHODS:
            if isinstance(obj, kind):
                return attr in allowed
        return True

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call ``obj`` within the budget."""
        budget = self.budget
        budget.enter()
        try:
            method = getattr(obj, "__wrapped__", obj) if _is_function(obj) else obj
            owner = getattr(method, "__self__", None) if _is_function(method) else None
            if isinstance(owner, str):
                if method.__name__ == "join":
                    args = tuple(_listed(argument) for argument in args)
                budget.text_method(owner, method.__name__, [*args, *kwargs.values()])
            else:
                budget.see(owner)
            return budget.result(super().call(context, obj, *args, **kwargs))
        finally:
            budget.leave()

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Compute an arithmetic operator within the budget."""
        self.budget.operator(operator, left, right)
        return self.budget.result(super().call_binop(context, operator, left, right))

    def _guarded_filter(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        passed = getattr(getattr(function, "jinja_pass_arg", None), "name", None)

        @pass_context
        def guarded(context: Context, *args: Any, **kwargs: Any) -> Any:
            if name in ("join", "sum"):
                args = (_listed(args[0]), *args[1:])
            self.budget.filter_arguments(name, [*args, *kwargs.values()])
            first = {
                "context": (context,),
                "eval_context": (context.eval_ctx,),
                "environment": (self,),
            }
            result = function(*first.get(str(passed), ()), *args, **kwargs)
            return self.budget.result(result)

        return guarded

    def _guarded_test(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*args: Any) -> Any:
            for argument in args:
                self._pay_operand(argument)
            return function(*args)

        return guarded

    def _pay_operand(self, value: Any) -> None:
        if isinstance(value, list | tuple | dict):
            self.budget.printed_size(value)  # comparing walks as printing does
        else:
            self.budget.see(value)

    @pass_context
    def _round(self, context: Context, written: int) -> None:
        """Pay for one round of a loop or macro that writes so many fixed characters."""
        self.budget.step()
        self.budget.write(written)

    @pass_context
    def _operand(self, context: Context, value: Any) -> Any:
        """Pay for a value that is compared or sliced."""
        self._pay_operand(value)
        return value

    @pass_context
    def _shown(self, context: Context, value: Any) -> Any:
        """Pay for a value that is written."""
        self.budget.step()
        self.budget.write(self.budget.printed_size(value))
        return value

    @pass_context
    def _concat(self, context: Context, values: Sequence[Any]) -> str:
        """Join the operands of ``~``."""
        return "".join([self.budget.text_of(value) for value in values])

    def _range(self, *args: int) -> range:
        numbers = range(*args)
        if len(numbers) > _MAX_RANGE:
            raise SecurityError(f"a range is longer than {_MAX_RANGE}")
        return numbers

    def _strftime_now(self, format: str) -> str:
        if len(format) > 200 or re.search(r"\d{3}", format):
            raise SecurityError("a date format is too long")
        return self.now.strftime(format)


class GenerationBlocks(Extension):
    """``{% generation %}...{% endgeneration %}``: marks the model's own text, shows it as it is."""

    tags = {"generation"}  # noqa: RUF012 (Jinja declares it so)

    def parse(self, parser: Parser) -> nodes.Node:
        """Return a call block around the body, as transformers' AssistantTracker does."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        call = self.call_method("_shown_body")
        return nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _shown_body(self, caller: Callable[[], str]) -> str:
        return caller()


class _Meter(NodeTransformer):
    """Inserts payments: per round of loops and macros, per value written, joined or compared."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        return self._pay_per_round(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Macro:
        return self._pay_per_round(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.CallBlock:
        return self._pay_per_round(node)

    def visit_Block(self, node: nodes.Block) -> nodes.Block:
        return self._pay_per_round(node)

    def visit_Output(self, node: nodes.Output) -> nodes.Output:
        self.generic_visit(node)
        node.nodes = [
            child if isinstance(child, nodes.TemplateData) else _filtered(child, "_shown")
            for child in node.nodes
        ]
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), "_concat")

    def visit_Compare(self, node: nodes.Compare) -> nodes.Compare:
        self.generic_visit(node)
        node.expr = _filtered(node.expr, "_operand")
        for operand in node.ops:
            operand.expr = _filtered(operand.expr, "_operand")
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Getitem:
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            node.node = _filtered(node.node, "_operand")
        return node

    def _pay_per_round(self, node: _BODY) -> _BODY:
        written = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        self.generic_visit(node)
        payment = _filtered(nodes.Const(written, lineno=node.lineno), "_round")
        node.body.insert(0, nodes.ExprStmt(payment, lineno=node.lineno))
        return node


def _filtered(node: nodes.Expr, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _is_function(obj: object) -> bool:
    return isinstance(obj, types.BuiltinFunctionType | types.MethodType | types.FunctionType)


def _listed(items: Any) -> Any:
    """Return an iterator's items as a list, so that they can be counted before they are joined."""
    if isinstance(items, Sized) or not isinstance(items, Iterable):
        return items
    return list(items)


def _raise_exception(message: object) -> NoReturn:
    raise RefusedError(str(message))


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Write JSON as transformers' ``tojson`` does: no HTML escapes."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )

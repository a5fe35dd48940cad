"""Assembles WebAssembly modules from typed expressions, at run time, in well under a millisecond.

Usable on its own: it knows nothing of models or of how a module is run. An ``Expr`` is a piece of
code with a type; every operation checks the types of its operands as the specification's validator
would. Control flow is structured by ``with`` blocks, locals are assigned by ``set``:

    module = Module(memory=Memory("env", "memory", 1))
    f = module.function("sum", ["i32", "i32"], "f32")
    at, count = f.parameters
    total = f.let(f32.const(0.0))
    with f.range(count) as i:
        total.set(total + f32.load(at + (i << 2)))
    f.result(total)
    data = module.assemble()
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

from ..errors import KernelError
from .instructions import (
    INSTRUCTIONS,
    VALUE_TYPES,
    Instruction,
    instruction_of,
    leb_signed,
    leb_unsigned,
    plain_only,
    wrapped,
)

_END, _ELSE = b"\x0b", b"\x05"
_BLOCK, _LOOP, _IF = b"\x02\x40", b"\x03\x40", b"\x04\x40"


class Expr:
    """A pure piece of code that leaves one value of ``type`` (None: leaves nothing).

    Using an expression twice computes it twice: ``Function.let`` keeps it in a local.
    Operators work on i32 (signed comparisons, logical ``>>``), i64, f32 and f64.
    """

    __slots__ = ("code", "type")

    def __init__(self, type_: str | None, code: bytes) -> None:
        self.type = type_
        self.code = code

    def __add__(self, other: Operand) -> Expr:
        return _binary(self, other, "add")

    def __sub__(self, other: Operand) -> Expr:
        return _binary(self, other, "sub")

    def __mul__(self, other: Operand) -> Expr:
        return _binary(self, other, "mul")

    def __truediv__(self, other: Operand) -> Expr:
        return _binary(self, other, "div")

    def __floordiv__(self, other: Operand) -> Expr:
        return _binary(self, other, "div_u")

    def __mod__(self, other: Operand) -> Expr:
        return _binary(self, other, "rem_u")

    def __and__(self, other: Operand) -> Expr:
        return _binary(self, other, "and")

    def __or__(self, other: Operand) -> Expr:
        return _binary(self, other, "or")

    def __xor__(self, other: Operand) -> Expr:
        return _binary(self, other, "xor")

    def __lshift__(self, other: Operand) -> Expr:
        return _binary(self, other, "shl")

    def __rshift__(self, other: Operand) -> Expr:
        return _binary(self, other, "shr_u")

    def __lt__(self, other: Operand) -> Expr:
        return _binary(self, other, self._ordered("lt"))

    def __gt__(self, other: Operand) -> Expr:
        return _binary(self, other, self._ordered("gt"))

    def __le__(self, other: Operand) -> Expr:
        return _binary(self, other, self._ordered("le"))

    def __ge__(self, other: Operand) -> Expr:
        return _binary(self, other, self._ordered("ge"))

    def equals(self, other: Operand) -> Expr:
        """Return whether both are equal (``==`` stays Python's identity)."""
        return _binary(self, other, "eq")

    def _ordered(self, name: str) -> str:
        return name if self.type in ("f32", "f64") else name + "_s"


Operand = Expr | int | float


class Local(Expr):
    """A local variable or parameter of a function."""

    __slots__ = ("_body", "_index")

    def __init__(self, body: bytearray, type_: str, index: int) -> None:
        encoded = leb_unsigned(index)
        super().__init__(type_, b"\x20" + encoded)
        self._body = body
        self._index = encoded

    def set(self, value: Operand) -> None:
        """Assign; appends to the function's body."""
        assert self.type is not None
        value = operand(self.type, value)
        if value.type != self.type:
            raise KernelError(f"A local of type {self.type} cannot hold {value.type}.")
        self._body += value.code + b"\x21" + self._index


class Namespace:
    """Instructions by their prefix: ``i16x8.add(a, b)`` is ``i16x8.add``."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._made: dict[str, Callable[..., Expr]] = {}

    def __getattr__(self, name: str) -> Callable[..., Expr]:
        # ``and_`` and ``or_`` stand for the words that Python reserves.
        full = f"{self._name}.{name.rstrip('_')}"
        if full not in INSTRUCTIONS:
            raise AttributeError(f"there is no instruction {full}")
        made = _constructor(INSTRUCTIONS[full])
        if ".relaxed_" in full:
            made = _relaxed(full, made)
        setattr(self, name, made)
        return made

    def const(self, value: float) -> Expr:
        """Return a constant; of a vector's shape: the same in all lanes."""
        if self._name in VALUE_TYPES:
            return constant(self._name, value)
        form = {"i8x16": "<b", "i16x8": "<h", "i32x4": "<i", "i64x2": "<q"}.get(self._name)
        if form is None:
            form = {"f32x4": "<f", "f64x2": "<d"}[self._name]
        else:
            value = wrapped(int(value), 128 // int(self._name.split("x")[1]))
        lane = struct.pack(form, value)
        return v128_const(lane * (16 // len(lane)))


def _relaxed(full: str, made: Callable[..., Expr]) -> Callable[..., Expr]:
    """Return the instruction, or what it stands for inside ``without_relaxed``."""

    def choose(*values: Expr, **options: int) -> Expr:
        if not plain_only.get():
            return made(*values, **options)
        shape, _, name = full.partition(".relaxed_")
        lanes = Namespace(shape)
        if name == "madd":
            return lanes.add(lanes.mul(*values[:2]), values[2])
        if name == "trunc_f32x4_s":
            return lanes.trunc_sat_f32x4_s(*values)
        raise KernelError(f"{full} is relaxed SIMD, which this engine has not got.")

    return choose


atomic = Namespace("i32.atomic")
"""Atomic accesses of 32 bits; ``Namespace("memory.atomic")`` has wait and notify."""
i32, i64, f32, f64 = (Namespace(name) for name in ("i32", "i64", "f32", "f64"))
v128, i8x16, i16x8, i32x4, i64x2, f32x4, f64x2 = (
    Namespace(name) for name in ("v128", "i8x16", "i16x8", "i32x4", "i64x2", "f32x4", "f64x2")
)


def constant(type_: str, value: float) -> Expr:
    """Return a scalar constant; integers are taken modulo their size."""
    if type_ == "i32":
        return _i32(int(value))
    if type_ == "i64":
        return Expr(type_, b"\x42" + leb_signed(wrapped(int(value), 64)))
    if type_ == "f32":
        return Expr(type_, b"\x43" + struct.pack("<f", value))
    if type_ == "f64":
        return Expr(type_, b"\x44" + struct.pack("<d", value))
    raise KernelError(f"There is no constant of type {type_}: use a shape's const.")


@lru_cache(8192)  # addresses and strides come back in every layer
def _i32(value: int) -> Expr:
    return Expr("i32", b"\x41" + leb_signed(wrapped(value, 32)))


def v128_const(data: bytes) -> Expr:
    """Return a vector constant of 16 bytes."""
    if len(data) != 16:
        raise KernelError(f"A vector has 16 bytes, not {len(data)}.")
    return Expr("v128", b"\xfd\x0c" + data)


def shuffle(a: Expr, b: Expr, lanes: Sequence[int]) -> Expr:
    """Return ``i8x16.shuffle``: byte ``lanes[i]`` of a (0 to 15) or b (16 to 31)."""
    if len(lanes) != 16 or not all(0 <= lane < 32 for lane in lanes):
        raise KernelError(f"A shuffle takes 16 lanes below 32, not {list(lanes)}.")
    _check("i8x16.shuffle", ("v128", "v128"), (a, b))
    return Expr("v128", a.code + b.code + b"\xfd\x0d" + bytes(lanes))


def shuffle32(a: Expr, b: Expr, lanes: Sequence[int]) -> Expr:
    """Return a shuffle of 32-bit lanes: 0 to 3 are a's, 4 to 7 are b's."""
    return shuffle(a, b, [4 * lane + byte for lane in lanes for byte in range(4)])


def select(condition: Expr, yes: Expr, no: Expr) -> Expr:
    """Return ``yes`` where ``condition`` is not zero; both are computed."""
    if yes.type != no.type or yes.type is None:
        raise KernelError(f"A select needs two values of one type, not {yes.type}, {no.type}.")
    _check("select", ("i32",), (condition,))
    typed = b"\x1c\x01" + bytes([VALUE_TYPES[yes.type]])
    return Expr(yes.type, yes.code + no.code + condition.code + typed)


def memory_copy(target: Expr, source: Expr, count: Operand) -> Expr:
    """Return ``memory.copy``."""
    count = operand("i32", count)
    _check("memory.copy", ("i32",) * 3, (target, source, count))
    return Expr(None, target.code + source.code + count.code + b"\xfc\x0a\x00\x00")


def memory_fill(target: Expr, value: Operand, count: Operand) -> Expr:
    """Return ``memory.fill``."""
    value, count = operand("i32", value), operand("i32", count)
    _check("memory.fill", ("i32",) * 3, (target, value, count))
    return Expr(None, target.code + value.code + count.code + b"\xfc\x0b\x00")


def operand(type_: str, value: Operand) -> Expr:
    """Return ``value`` as an expression; numbers become constants of ``type_``."""
    return value if isinstance(value, Expr) else constant(type_, value)


def _binary(left: Expr, right: Operand, name: str) -> Expr:
    found = instruction_of(left.type, name)
    if found is None or left.type is None:
        raise KernelError(f"{name} is not defined for {left.type}.")
    if not isinstance(right, Expr):
        right = constant(left.type, right)
    _check(found.name, found.operands, (left, right))
    return Expr(found.result, left.code + right.code + found.opcode)


def _check(name: str, wanted: tuple[str, ...], given: Sequence[Expr]) -> None:
    types = tuple([value.type for value in given])
    if types != wanted:
        raise KernelError(f"{name} takes {list(wanted)}, not {list(types)}.")


def _constructor(found: Instruction) -> Callable[..., Expr]:
    """Return a function that checks operands and appends the instruction."""
    wanted, count = found.operands, len(found.operands)

    def make(*values: Operand, offset: int = 0) -> Expr:
        immediates = b""
        if found.lanes:
            *values_, lane = values
            if not isinstance(lane, int) or not 0 <= lane < found.lanes:
                raise KernelError(f"{found.name} has no lane {lane}.")
            values, immediates = tuple(values_), bytes([lane])
        if found.alignment >= 0:
            if offset < 0:
                raise KernelError(f"{found.name} cannot have the offset {offset}.")
            immediates = leb_unsigned(found.alignment) + leb_unsigned(offset)
        elif offset:
            raise KernelError(f"{found.name} accesses no memory.")
        if len(values) != count:
            raise KernelError(f"{found.name} takes {count} operands, not {len(values)}.")
        given = [operand(t, v) for t, v in zip(wanted, values, strict=True)]
        _check(found.name, wanted, given)
        code = b"".join([value.code for value in given])
        return Expr(found.result, code + found.opcode + immediates)

    return make


@dataclass(frozen=True)
class Memory:
    """The imported memory; sizes in pages of 64 KiB."""

    module: str
    name: str
    minimum: int
    maximum: int | None = None
    shared: bool = False

    def encoded(self) -> bytes:
        """Return the import's limits."""
        flags = (self.maximum is not None) | self.shared << 1
        if self.shared and self.maximum is None:
            raise KernelError("A shared memory needs a maximum.")
        most = b"" if self.maximum is None else leb_unsigned(self.maximum)
        return bytes([2, flags]) + leb_unsigned(self.minimum) + most


class Function:
    """A function being built, or an imported one; made by ``Module``."""

    def __init__(
        self, module: Module, name: str, parameters: Sequence[str], result: str | None, index: int
    ) -> None:
        self.name = name
        self.types = tuple(parameters)
        self.result_type = result
        self.index = index
        self._module = module
        self._body = bytearray()
        self._locals: list[str] = []
        self._depth = 0
        self._done = False
        self.parameters = [Local(self._body, t, i) for i, t in enumerate(parameters)]

    def local(self, type_: str) -> Local:
        """Return a new local variable, zero at first."""
        if type_ not in VALUE_TYPES:
            raise KernelError(f"There is no type {type_}.")
        self._locals.append(type_)
        return Local(self._body, type_, len(self.types) + len(self._locals) - 1)

    def let(self, value: Expr) -> Local:
        """Return a new local that holds ``value``."""
        if value.type is None:
            raise KernelError("An instruction without a result cannot be kept.")
        made = self.local(value.type)
        made.set(value)
        return made

    def do(self, *statements: Expr) -> None:
        """Append statements: stores, calls, copies."""
        for statement in statements:
            self._body += statement.code
            if statement.type is not None:
                self._body.append(0x1A)

    def trap(self) -> None:
        """Stop here: the host sees a trap."""
        self._body.append(0x00)

    def result(self, value: Expr) -> None:
        """Leave the function's result; the last statement."""
        if self._depth or value.type != self.result_type:
            raise KernelError(f"{self.name} ends with {value.type}, not {self.result_type}.")
        self._body += value.code
        self._done = True

    def call(self, function: Function, *values: Operand) -> Expr:
        """Return a call of another function of the module."""
        if len(values) != len(function.types):
            raise KernelError(f"{function.name} takes {len(function.types)} operands.")
        given = [operand(t, v) for t, v in zip(function.types, values, strict=True)]
        _check(function.name, function.types, given)
        code = b"".join([v.code for v in given]) + b"\x10" + leb_unsigned(function.index)
        return Expr(function.result_type, code)

    @contextmanager
    def range(self, stop: Operand, start: Operand = 0, step: Operand = 1) -> Iterator[Local]:
        """Loop ``start, start + step, ... < stop`` (signed); the counter is a new local.

        ``stop`` and ``step`` are computed again on every turn: give a local or a constant.
        """
        counter = self.let(operand("i32", start))
        with self.while_(lambda: counter < stop):
            yield counter
            counter.set(counter + step)

    @contextmanager
    def while_(self, condition: Callable[[], Expr]) -> Iterator[None]:
        """Loop as long as ``condition()`` is not zero, tested at the top first, then below."""
        test = condition()
        _check("while", ("i32",), (test,))
        self._body += test.code + _IF + _LOOP
        self._depth += 2
        yield
        self._body += test.code + b"\x0d\x00" + _END + _END
        self._depth -= 2

    @contextmanager
    def if_(self, condition: Expr) -> Iterator[None]:
        """Run the block where ``condition`` is not zero."""
        _check("if", ("i32",), (condition,))
        self._body += condition.code + _IF
        self._depth += 1
        yield
        self._body += _END
        self._depth -= 1

    @contextmanager
    def else_(self) -> Iterator[None]:
        """Continue the ``if_`` block that was just closed."""
        if self._body[-1:] != _END:
            raise KernelError("An else follows an if.")
        self._body[-1:] = _ELSE
        self._depth += 1
        yield
        self._body += _END
        self._depth -= 1

    def encoded(self) -> bytes:
        """Return the function's body with its locals."""
        if self._depth or (self.result_type is not None and not self._done):
            raise KernelError(f"{self.name} has an open block or no result.")
        runs: list[list[int]] = []
        for type_ in self._locals:
            code = VALUE_TYPES[type_]
            if runs and runs[-1][1] == code:
                runs[-1][0] += 1
            else:
                runs.append([1, code])
        declared = b"".join([leb_unsigned(count) + bytes([code]) for count, code in runs])
        body = leb_unsigned(len(runs)) + declared + bytes(self._body) + _END
        return leb_unsigned(len(body)) + body


class Module:
    """A module being built. Functions can call those made before and, by name, are exported."""

    def __init__(self, memory: Memory | None = None) -> None:
        self.memory = memory
        self._imports: list[tuple[str, str, Function]] = []
        self._functions: list[Function] = []
        self._exports: list[Function] = []

    def imported(
        self, module: str, name: str, parameters: Sequence[str], result: str | None = None
    ) -> Function:
        """Import a function; before any function is made."""
        if self._functions:
            raise KernelError("Imports come before functions.")
        made = Function(self, name, parameters, result, len(self._imports))
        self._imports.append((module, name, made))
        return made

    def function(
        self,
        name: str,
        parameters: Sequence[str] = (),
        result: str | None = None,
        *,
        export: bool = True,
    ) -> Function:
        """Begin a function."""
        index = len(self._imports) + len(self._functions)
        made = Function(self, name, parameters, result, index)
        self._functions.append(made)
        if export:
            self._exports.append(made)
        return made

    def assemble(self) -> bytes:
        """Return the module's bytes."""
        types: dict[bytes, int] = {}

        def type_of(f: Function) -> bytes:
            results = () if f.result_type is None else (f.result_type,)
            signature = b"\x60" + _types(f.types) + _types(results)
            return leb_unsigned(types.setdefault(signature, len(types)))

        imports = [
            _name(module) + _name(name) + b"\x00" + type_of(f) for module, name, f in self._imports
        ]
        if self.memory is not None:
            memory = self.memory
            imports.append(_name(memory.module) + _name(memory.name) + memory.encoded())
        functions = [type_of(f) for f in self._functions]
        exports = [_name(f.name) + b"\x00" + leb_unsigned(f.index) for f in self._exports]
        bodies = [f.encoded() for f in self._functions]
        sections = ((1, list(types)), (2, imports), (3, functions), (7, exports), (10, bodies))
        return b"\0asm\1\0\0\0" + b"".join(_section(n, items) for n, items in sections if items)


def _types(names: Sequence[str]) -> bytes:
    return leb_unsigned(len(names)) + bytes([VALUE_TYPES[name] for name in names])


def _name(text: str) -> bytes:
    data = text.encode()
    return leb_unsigned(len(data)) + data


def _section(number: int, items: Sequence[bytes]) -> bytes:
    data = leb_unsigned(len(items)) + b"".join(items)
    return bytes([number]) + leb_unsigned(len(data)) + data

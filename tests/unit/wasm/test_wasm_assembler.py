"""The assembler: every instruction validates, control flow computes, mistakes are refused."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest

from tilewright.errors import KernelError
from tilewright.wasm.assembler import (
    Memory,
    Module,
    Namespace,
    atomic,
    constant,
    f32,
    f32x4,
    f64,
    i8x16,
    i16x8,
    i32,
    i32x4,
    i64,
    memory_copy,
    memory_fill,
    select,
    shuffle,
    shuffle32,
    v128,
    v128_const,
)
from tilewright.wasm.instructions import INSTRUCTIONS, leb_signed, leb_unsigned

wasmtime = pytest.importorskip("wasmtime", reason="the WebAssembly backend needs wasmtime")

MEMORY = Memory("env", "memory", 1)


def compiled(module: Module) -> Any:
    """Validate and instantiate with a memory of one page."""
    config = wasmtime.Config()
    config.wasm_relaxed_simd = True
    config.wasm_threads = True
    store = wasmtime.Store(wasmtime.Engine(config))
    memory = wasmtime.Memory(store, wasmtime.MemoryType(wasmtime.Limits(1, 1)))
    found = wasmtime.Module(store.engine, module.assemble())
    imports = [] if module.memory is None else [memory]
    exports = wasmtime.Instance(store, found, imports).exports(store)
    return lambda name, *values: exports[name](store, *values)


@pytest.mark.parametrize("value", [0, 1, 63, 64, 127, 128, 300, 2**31, 2**32 - 1])
def test_unsigned_leb128(value: int) -> None:
    data = leb_unsigned(value)
    assert sum((byte & 127) << 7 * i for i, byte in enumerate(data)) == value
    assert all(byte & 128 for byte in data[:-1])
    assert not data[-1] & 128


@pytest.mark.parametrize("value", [0, -1, 63, 64, -64, -65, 2**31 - 1, -(2**31), 2**63 - 1])
def test_signed_leb128(value: int) -> None:
    data = leb_signed(value)
    number = sum((byte & 127) << 7 * i for i, byte in enumerate(data))
    assert number - (1 << 7 * len(data) if data[-1] & 64 else 0) == value


def test_every_instruction_of_the_table_validates() -> None:
    module = Module(MEMORY)
    for name, found in INSTRUCTIONS.items():
        function = module.function(name, found.operands, found.result)
        space, _, word = name.partition(".")
        make = getattr(Namespace(space), word)
        value = make(*function.parameters, *([found.lanes - 1] if found.lanes else []))
        if found.result is None:
            function.do(value)
        else:
            function.result(value)
    compiled(module)


def test_opcodes_mean_what_their_names_say() -> None:
    """A sample of each run of the table, computed: a shifted number would compute another thing."""
    module = Module(MEMORY)
    cases = {
        "rotr": (i32.rotr(i32.const(1), 1), 1 << 31),
        "ge_u": (i32.ge_u(i32.const(-1), 1), 1),
        "f_ge": (f32.ge(f32.const(2.0), 2.0), 1),
        "d_ge": (f64.ge(f64.const(1.0), 2.0), 0),
        "ctz": (i32.ctz(i32.const(8)), 3),
        "nearest": (i32.trunc_f32_s(f32.nearest(f32.const(2.5))), 2),
        "copysign": (i32.trunc_f64_s(f64.copysign(f64.const(3.0), f64.const(-1.0))), -3),
        "bits": (i32.reinterpret_f32(f32.const(1.0)), 0x3F800000),
        "wrap": (i32.wrap_i64(i64.extend_i32_s(i32.const(-5))), -5),
        "min_s": (i8x16.extract_lane_s(i8x16.min_s(i8x16.const(-3), i8x16.const(4)), 9), -3),
        "extadd": (
            i32x4.extract_lane(i32x4.extadd_pairwise_i16x8_s(i16x8.const(-7)), 3),
            -14,
        ),
        "extend": (i16x8.extract_lane_s(i16x8.extend_high_i8x16_u(i8x16.const(-1)), 7), 255),
        "dot": (i32x4.extract_lane(i32x4.dot_i16x8_s(i16x8.const(3), i16x8.const(5)), 0), 30),
        "narrow": (
            i16x8.extract_lane_s(i16x8.narrow_i32x4_s(i32x4.const(99999), i32x4.const(0)), 0),
            32767,
        ),
        "convert": (
            i32.trunc_f32_s(f32x4.extract_lane(f32x4.convert_i32x4_u(i32x4.const(7)), 2)),
            7,
        ),
        "madd": (
            i32.trunc_f32_s(
                f32x4.extract_lane(
                    f32x4.relaxed_madd(f32x4.const(2.0), f32x4.const(3.0), f32x4.const(4.0)), 1
                )
            ),
            10,
        ),
        "relaxed16": (
            i16x8.extract_lane_s(
                i16x8.relaxed_dot_i8x16_i7x16_s(i8x16.const(-100), i8x16.const(15)), 4
            ),
            -3000,
        ),
        "relaxed32": (
            i32x4.extract_lane(
                i32x4.relaxed_dot_i8x16_i7x16_add_s(
                    i8x16.const(-100), i8x16.const(15), i32x4.const(1)
                ),
                1,
            ),
            -5999,
        ),
        "bitmask": (i32x4.bitmask(i32x4.lt_s(i32x4.const(-1), i32x4.const(0))), 15),
        "any": (v128.any_true(v128.andnot(i32x4.const(1), i32x4.const(1))), 0),
    }
    for name, (value, _) in cases.items():
        module.function(name, (), "i32").result(value)
    call = compiled(module)
    for name, (_, expected) in cases.items():
        assert call(name) & 0xFFFFFFFF == expected & 0xFFFFFFFF, name


def test_loops_branches_and_memory() -> None:
    module = Module(MEMORY)
    helper = module.function("square", ["i32"], "i32", export=False)
    helper.result(helper.parameters[0] * helper.parameters[0])
    f = module.function("odd_squares", ["i32"], "i32")
    total = f.local("i32")
    with f.range(f.parameters[0]) as i:
        f.do(i32.store(i << 2, f.call(helper, i)))
        with f.if_(i & 1):
            total.set(total + i32.load(i << 2))
        with f.else_():
            total.set(total - 1)
    f.result(total)
    g = module.function("copied", [], "i32")
    g.do(memory_fill(i32.const(256), 7, 8), memory_copy(i32.const(300), i32.const(256), 4))
    g.result(select(i32.load(i32.const(300)).equals(0x07070707), i32.const(1), i32.const(2)))
    call = compiled(module)
    assert call("odd_squares", 6) == 1 + 9 + 25 - 3
    assert call("odd_squares", 0) == 0
    assert call("odd_squares", -4) == 0
    assert call("copied") == 1


def test_shuffles_and_constants() -> None:
    module = Module(MEMORY)
    a, b = v128_const(bytes(range(16))), v128_const(bytes(range(16, 32)))
    f = module.function("mixed", [])
    f.do(
        v128.store(i32.const(0), shuffle(a, b, [0, 16, 1, 17, *range(4, 16)])),
        v128.store(i32.const(16), shuffle32(a, b, [0, 4, 3, 7])),
        v128.store(i32.const(32), i8x16.swizzle(a, v128_const(bytes([15] * 16)))),
    )
    g = module.function("load", ["i32"], "i32")
    g.result(i32.load8_u(g.parameters[0]))
    call = compiled(module)
    call("mixed")
    stored = [call("load", at) for at in range(48)]
    assert stored[:5] == [0, 16, 1, 17, 4]
    assert stored[16:32] == [*range(4), *range(16, 20), *range(12, 16), *range(28, 32)]
    assert stored[32:] == [15] * 16


def test_scalars_are_encoded_as_ieee_numbers() -> None:
    module = Module()
    for number, value in enumerate([0.1, -0.0, float("inf"), 1e-45]):
        module.function(f"s{number}", (), "f32").result(f32.const(value))
        module.function(f"d{number}", (), "f64").result(constant("f64", value))
    call = compiled(module)
    for number, value in enumerate([0.1, -0.0, float("inf"), 1e-45]):
        assert struct.pack("<f", call(f"s{number}")) == np.float32(value).tobytes()
        assert struct.pack("<d", call(f"d{number}")) == np.float64(value).tobytes()


def test_imports_and_shared_memories() -> None:
    shared = Memory("env", "memory", 1, 4, shared=True)
    module = Module(shared)
    notify = module.imported("host", "notify", ["i32"], "i32")
    f = module.function("run", ["i32"], "i32")
    f.do(atomic.store(f.parameters[0], atomic.load(f.parameters[0]) + 1))
    f.result(f.call(notify, f.parameters[0]))
    config = wasmtime.Config()
    config.wasm_threads = True
    config.shared_memory = True
    kinds = wasmtime.Module(wasmtime.Engine(config), module.assemble()).imports
    assert [(kind.module, kind.name) for kind in kinds] == [("host", "notify"), ("env", "memory")]
    assert (kinds[1].type.limits.min, kinds[1].type.limits.max) == (1, 4)


def test_mistakes_are_refused_while_building() -> None:
    module = Module(MEMORY)
    f = module.function("f", ["i32"], "i32")
    x = f.parameters[0]
    with pytest.raises(KernelError, match="takes"):
        f32.add(x, f32.const(1.0))
    with pytest.raises(KernelError, match="cannot hold"):
        f.local("f32").set(x)
    with pytest.raises(KernelError, match="no lane"):
        f32x4.extract_lane(f32x4.const(0.0), 4)
    with pytest.raises(KernelError, match="operands"):
        i32.add(x)
    with pytest.raises(KernelError, match="no memory"):
        i32.add(x, x, offset=4)
    with pytest.raises(KernelError, match="shuffle"):
        shuffle(f32x4.const(0.0), f32x4.const(0.0), [32] * 16)
    with pytest.raises(KernelError, match="no result"):
        module.assemble()
    with pytest.raises(KernelError, match="ends with"):
        f.result(f32.const(0.0))
    with pytest.raises(AttributeError):
        i32.no_such_thing  # noqa: B018
    with pytest.raises(KernelError, match="maximum"):
        Memory("env", "memory", 1, shared=True).encoded()
    with pytest.raises(KernelError, match="before functions"):
        module.imported("host", "late", [])


def test_a_trap_and_a_bad_module_are_typed_errors() -> None:
    from tilewright.wasm.native import NativeMemory

    memory = NativeMemory(1)
    module = Module(MEMORY)
    f = module.function("beyond", ["i32"], "i32")
    f.result(i32.load(f.parameters[0]))
    with pytest.raises(KernelError, match="stopped"):
        memory.instantiate(module.assemble()).call("beyond", 65536)
    with pytest.raises(KernelError, match="compile"):
        memory.instantiate(module.assemble()[:-2])
    with pytest.raises(KernelError, match="outside"):
        memory.write(65530, b"1234567")
    with pytest.raises(KernelError, match="outside"):
        memory.read(-1, 4)

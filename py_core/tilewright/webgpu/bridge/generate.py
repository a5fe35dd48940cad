"""Makes the methods of the browser backend from the signatures of ``wgpu.classes``.

A method that wgpu-py leaves to its backends becomes one JavaScript call: keyword-only parameters
turn into one descriptor object, positional ones stay positional, and the return annotation says
which class wraps the result. ``objects.py`` holds the bodies for which this is not enough.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wgpu import classes, flags

from .convert import camel, to_number, to_plain
from .promise import BridgePromise

# JavaScript's names where dropping "_async" is wrong.
_KEEPS_SUFFIX = {"create_compute_pipeline_async": "createComputePipelineAsync"}

Wrap = Callable[[Any, Any, str], Any]


def is_left_to_backend(function: Any) -> bool:
    """Say whether a method of ``wgpu.classes`` has no body of its own."""
    code = getattr(function, "__code__", None)
    return code is not None and "NotImplementedError" in code.co_names


def js_name(name: str) -> str:
    """Return the JavaScript name of a method."""
    return _KEEPS_SUFFIX.get(name) or camel(name.removesuffix("_async"))


def _flag_of(annotation: object) -> Any:
    text = str(annotation)
    if text.startswith("flags.") and text.endswith("Flags"):
        return getattr(flags, text.removeprefix("flags.").removesuffix("Flags"), None)
    return None


def make_method(function: Any, registry: dict[str, type]) -> Callable[..., Any]:
    """Return the browser's body for one method; ``registry`` maps class names to wrappers."""
    code = function.__code__
    name = function.__name__
    positional = code.co_varnames[1 : code.co_argcount]
    keyword_only = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    trailing = function.__defaults__ or ()
    optional = positional[len(positional) - len(trailing) :]
    defaults = dict(zip(optional, trailing, strict=True))
    defaults.update(function.__kwdefaults__ or {})
    flag_of = {key: _flag_of(note) for key, note in function.__annotations__.items()}
    returns = str(function.__annotations__.get("return", "None"))
    called = js_name(name)
    is_async = returns.startswith("GPUPromise[")
    wrapper = registry.get(returns.removeprefix("GPUPromise[").removesuffix("]"))

    def convert(key: str, value: Any) -> Any:
        flag = flag_of.get(key)
        return to_number(flag, value) if flag is not None else to_plain(value)

    def bind(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        if len(args) > len(positional):
            raise TypeError(f"{name}() takes {len(positional)} positional arguments")
        bound = defaults | dict(zip(positional, args, strict=False)) | kwargs
        unknown = bound.keys() - set(positional) - set(keyword_only)
        missing = [key for key in (*positional, *keyword_only) if key not in bound]
        if unknown or missing:
            raise TypeError(
                f"{name}(): unknown arguments {sorted(unknown)}, missing arguments {missing}"
            )
        return bound

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = getattr(self._internal, called)
        if not keyword_only and not kwargs and len(args) == len(positional):
            values = map(convert, positional, args)
            return finish(self, call(*map(self._argument, values)), "")
        bound = bind(args, kwargs)
        given = list(positional)
        while given and given[-1] in defaults and bound[given[-1]] == defaults[given[-1]]:
            given.pop()  # an absent argument, not null, means the default
        passed = [self._argument(convert(key, bound[key])) for key in given]
        if keyword_only:
            passed.append(self._descriptor({key: convert(key, bound[key]) for key in keyword_only}))
        return finish(self, call(*passed), bound.get("label") or "")

    def finish(self: Any, result: Any, label: str) -> Any:
        if is_async:
            device = self._device

            def handler(value: Any) -> Any:
                return wrapper(label, value, device) if wrapper else None

            return BridgePromise(name, handler, js_promise=result)
        return wrapper(label, result, self._device) if wrapper else None

    method.__name__ = name
    method.__qualname__ = function.__qualname__
    method.__doc__ = function.__doc__
    return method


def make_classes(bodies: dict[str, type], mixin: type, wanted: tuple[str, ...]) -> dict[str, type]:
    """Return the backend's classes by name.

    Args:
        bodies: hand-written methods, one class per wgpu class that needs some.
        mixin: what every wrapper shares (the edge to JavaScript).
        wanted: the classes of the compute half; methods that return others stay unavailable.
    """
    registry: dict[str, type] = {}
    for name in wanted:
        base = getattr(classes, name)
        parents = (bodies[name], mixin, base) if name in bodies else (mixin, base)
        registry[name] = type(name, parents, {"__module__": __package__})
    for wrapper in registry.values():
        for function_name in dir(wrapper):
            function = getattr(wrapper, function_name)
            if function_name.startswith("_") or not is_left_to_backend(function):
                continue
            returns = str(function.__annotations__.get("return", "None"))
            result = returns.removeprefix("GPUPromise[").removesuffix("]")
            if function_name.endswith("_sync") or (result != "None" and result not in registry):
                continue
            setattr(wrapper, function_name, make_method(function, registry))
    return registry

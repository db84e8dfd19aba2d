"""What in a script keeps its run from being resumed: clocks, chance, files and threads of its own.

A run that is resumed after a crash asks its protocol again from the beginning and answers with the
outcomes of the journal. That finds its place only if the protocol takes time, randomness and
results from the runner alone. This looks at the text; it can miss things, and the preview, which is
made twice, catches some of those.
"""

from __future__ import annotations

import ast
import builtins
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Final

from operando.protocols.protocol import Script

_TIME: Final = (
    "the run has a time of its own, which is the same again when it is resumed: use outcome.time "
    "or outcome.duration, and yield Rest(...) to wait"
)
_CHANCE: Final = "use cell.random, which gives the same numbers again when the run is resumed"
_FILES: Final = (
    "what it finds may be something else when the run is resumed: make it a parameter, or take it "
    "from an outcome"
)
_THREADS: Final = "a protocol does one thing after the other: yield steps"
_STATE: Final = (
    "is changed by a function, and a run that is resumed, or the next one, finds it changed: keep "
    "it in a variable of the protocol's function"
)
_ORDER: Final = "the order of a set differs from one start of Python to the next: use sorted(...)"

_MODULES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("time", "timeit", "sched"), _TIME),
    **dict.fromkeys(("random", "secrets", "uuid", "numpy.random"), _CHANCE),
    **dict.fromkeys(
        (
            "os", "io", "pathlib", "shutil", "glob", "tempfile", "sqlite3", "pickle", "platform",
            "requests", "httpx", "urllib", "http", "socket", "ftplib", "serial", "pyvisa",
        ),
        _FILES,
    ),
    **dict.fromkeys(
        ("threading", "_thread", "asyncio", "multiprocessing", "concurrent", "subprocess",
         "signal", "queue"),
        _THREADS,
    ),
}  # fmt: skip

_CALLS: Final[Mapping[str, str]] = {
    "datetime.datetime.now": _TIME,
    "datetime.datetime.utcnow": _TIME,
    "datetime.datetime.today": _TIME,
    "datetime.date.today": _TIME,
    "open": _FILES,
    "input": "nobody is there to answer, and the instruments are not read meanwhile: make it a "
    "parameter",
    "id": _CHANCE,
    "hash": _CHANCE,
    "exec": _FILES,
    "eval": _FILES,
    "__import__": _FILES,
    "numpy.loadtxt": _FILES,
    "numpy.genfromtxt": _FILES,
    "numpy.load": _FILES,
    "sys.exit": "leave the function with 'return' to end the run",
}

_MUTATORS: Final = frozenset(
    ("append", "extend", "insert", "remove", "pop", "clear", "sort", "reverse", "add", "discard",
     "update", "setdefault", "popitem")
)  # fmt: skip

CONSEQUENCE: Final = (
    "these refuse no run, but after a crash a run is resumed by asking its protocol again, which "
    "has to take time, randomness and results from the outcomes and the cell alone"
)


def notes_on(script: Script) -> tuple[str, ...]:
    """What is found in a script, each with its lines and what to write instead; () if nothing."""
    found = findings(script.text)
    name = script.path.name
    notes = [f"{name} {_lines(lines)}: {words}" for words, lines in found.items()]
    return (*notes, f"{name}: {CONSEQUENCE}") if notes else ()


def findings(text: str) -> Mapping[str, tuple[int, ...]]:
    """Words for each thing found in a source text, with its lines. The text must be Python."""
    looking = _Looking(ast.parse(text))
    found = sorted(looking.found.items(), key=lambda one: min(one[1]))
    return {words: tuple(sorted(set(lines))) for words, lines in found}


def _lines(numbers: tuple[int, ...]) -> str:
    if len(numbers) == 1:
        return f"line {numbers[0]}"
    return f"lines {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"


class _Looking:
    """One look at a module."""

    def __init__(self, tree: ast.Module) -> None:
        self.found: dict[str, list[int]] = defaultdict(list)
        self._names: dict[str, str] = {}
        """What names of the module were imported from: "np" is "numpy"."""
        self._bound = {
            name.id
            for node in tree.body
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            for name in ast.walk(node)
            if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
        }
        """Variables of the module."""
        self._defined = self._bound | {
            node.name
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                self._imports(node)
        for node in ast.walk(tree):
            self._calls(node)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                self._state(node)

    def _imports(self, node: ast.Import | ast.ImportFrom) -> None:
        if isinstance(node, ast.Import):
            for one in node.names:
                name = one.name if one.asname else one.name.partition(".")[0]
                self._names[one.asname or name] = name
                self._module(one.name, node)
        elif node.module and not node.level:
            if not self._module(node.module, node):
                for one in node.names:
                    self._module(f"{node.module}.{one.name}", node)
            for one in node.names:
                self._names[one.asname or one.name] = f"{node.module}.{one.name}"

    def _module(self, name: str, node: ast.AST) -> bool:
        """Note a module that is in the table, or is part of one that is."""
        parts = name.split(".")
        for length in range(len(parts), 0, -1):
            known = ".".join(parts[:length])
            if known in _MODULES:
                self._note(f"{known}: {_MODULES[known]}", node)
                return True
        return False

    def _calls(self, node: ast.AST) -> None:
        if isinstance(node, ast.Attribute):
            name = self._full_name(node)
            if name and name.startswith("numpy.random."):
                self._module("numpy.random", node)
        if isinstance(node, ast.Call):
            name = self._full_name(node.func)
            if name in _CALLS:
                self._note(f"{name}(): {_CALLS[name]}", node)
            elif name and self._module(name, node):
                pass
            elif name in ("exit", "quit"):
                self._note(f"{name}(): {_CALLS['sys.exit']}", node)
        if isinstance(node, ast.For | ast.comprehension) and self._is_set(node.iter):
            self._note(f"a loop over a set: {_ORDER}", node.iter)

    def _is_set(self, node: ast.expr) -> bool:
        call = isinstance(node, ast.Call) and self._full_name(node.func) in ("set", "frozenset")
        return call or isinstance(node, ast.Set | ast.SetComp)

    def _full_name(self, node: ast.expr) -> str:
        """Dotted name of what is meant: "numpy.random.rand" for np.random.rand; "" if unknown."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return ""
        if node.id in self._names:
            return ".".join([self._names[node.id], *reversed(parts)])
        built_in = not parts and hasattr(builtins, node.id) and node.id not in self._defined
        return node.id if built_in else ""

    def _state(self, function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        """Variables of the module that a function changes."""
        for node in _own_nodes(function):
            if isinstance(node, ast.Global):
                for name in node.names:
                    self._note(f"the module's variable {name} {_STATE}", node)
        local = {arg.arg for arg in ast.walk(function.args) if isinstance(arg, ast.arg)}
        local |= {
            node.id
            for node in _own_nodes(function)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
        outer = self._bound - local
        for node in _own_nodes(function):
            if (name := _changed(node)) in outer:
                self._note(f"the module's variable {name} {_STATE}", node)

    def _note(self, words: str, node: ast.AST) -> None:
        self.found[words].append(getattr(node, "lineno", 0))


def _own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """Nodes of a function without those of functions inside it."""
    waiting = list(ast.iter_child_nodes(function))
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def _changed(node: ast.AST) -> str:
    """Name of the variable whose value a node changes in place; "" if none."""
    target: ast.expr | None = None
    if isinstance(node, ast.Subscript | ast.Attribute) and isinstance(
        node.ctx, ast.Store | ast.Del
    ):
        target = node.value
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        target = node.func.value if node.func.attr in _MUTATORS else None
    while isinstance(target, ast.Subscript | ast.Attribute):
        target = target.value
    return target.id if isinstance(target, ast.Name) else ""

"""Protocol scripts: a Python file of a user with a protocol in it, loaded from its text.

A file is loaded anew each time it is asked for: what is run is what it says now, two files of one
name never mix, and nothing that an earlier run left in a script's variables is there.
"""

from __future__ import annotations

import hashlib
import inspect
import re
import sys
import traceback
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FunctionType, ModuleType

from operando.instruments.errors import BadInputError
from operando.instruments.parameters import parameters_schema
from operando.protocols import patience
from operando.protocols.preview import silenced
from operando.protocols.protocol import ProtocolFunction, Script

SUFFIX = ".py"

LONGEST = 500_000
"""Letters of a script that is loaded: its text goes into every record."""


def is_script(name: str) -> bool:
    """Whether a protocol's name is that of a file: "pulses.py" or "pulses.py:slow"."""
    return split_name(name)[0].endswith(SUFFIX)


def split_name(name: str) -> tuple[str, str]:
    """File and protocol in it: "pulses.py:slow" is ("pulses.py", "slow"); "" if it has only one."""
    found = re.fullmatch(rf"(.*{re.escape(SUFFIX)}):(\w*)", name, re.DOTALL)
    return (found[1], found[2]) if found else (name, "")


def load_script(path: Path, name: str = "") -> ProtocolFunction:
    """The protocol of a file. name: which, where there are several. Raises BadInputError."""
    found = protocols_in(path)
    if name:
        if name not in found:
            raise BadInputError(
                f"{path.name}: there is no protocol '{name}' in it; it has: {', '.join(found)}"
            )
        return found[name]
    if len(found) > 1:
        choices = " or ".join(f'"{path.name}:{one}"' for one in found)
        raise BadInputError(f"{path.name}: it has several protocols; name one of them, {choices}")
    return next(iter(found.values()))


def protocols_in(path: Path) -> Mapping[str, ProtocolFunction]:
    """The protocols that a file defines, at least one, by the names of their functions.

    Raises BadInputError with file and line for a file that cannot be read, carried out or used.
    """
    return protocols_of(Script(path, _read(path)))


def protocols_of(script: Script) -> Mapping[str, ProtocolFunction]:
    """The same from its text, such as that which a record kept."""
    module = _carried_out(script)
    file = str(script.path)
    found: dict[str, ProtocolFunction] = {}
    for value in vars(module).values():
        if isinstance(value, ProtocolFunction):
            function = inspect.unwrap(value.function)
            if function.__code__.co_filename == file and value.name not in found:
                _check_signature(script, value)
                found[value.name] = replace(value, script=script)
    if not found:
        raise BadInputError(f"{script.path.name}: {_nothing_in(module, file)}")
    return found


def _read(path: Path) -> str:
    if str(path).startswith(("//", "\\\\")):
        raise BadInputError(f"{path}: a protocol is loaded from this computer's own folders")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise BadInputError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except UnicodeDecodeError as error:
        raise BadInputError(f"{path}: is not UTF-8 text (byte {error.start})") from None
    if len(text) > LONGEST:
        raise BadInputError(f"{path}: has {len(text)} letters; a script has at most {LONGEST}")
    return text


def _carried_out(script: Script) -> ModuleType:
    """A new module with what the script defines."""
    name = "_script_" + hashlib.sha256(str(script.path).encode()).hexdigest()[:16]
    module = ModuleType(name)
    module.__file__ = str(script.path)
    try:
        code = compile(script.text, str(script.path), "exec", dont_inherit=True)
    except SyntaxError as error:
        line = f" line {error.lineno}" if error.lineno else ""
        raise BadInputError(f"{script.path.name}{line}: {error.msg}") from None
    except ValueError as error:  # a null byte
        raise BadInputError(f"{script.path.name}: {error}") from None
    # The classes that it defines look for their module there.
    sys.modules[name] = module
    try:
        with silenced():
            patience.within(partial(exec, code, vars(module)))
    except KeyboardInterrupt:
        raise
    except patience.TooLongError as error:
        raise BadInputError(
            f"{_line(script, error)}: it has been carried out for {patience.PATIENCE:g} s without "
            "coming to its end, and was stopped; it should define protocols and do nothing else"
        ) from None
    except ImportError as error:
        raise BadInputError(
            f"{_line(script, error)}: {error}; a script is one file: put what it needs into it, or "
            "install it as a package"
        ) from error
    except BaseException as error:
        said = f": {error}" if str(error) else ""
        raise BadInputError(f"{_line(script, error)}: {type(error).__name__}{said}") from error
    return module


def _line(script: Script, error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(script.path)]
    return f"{script.path.name} line {lines[-1]}" if lines else script.path.name


def _check_signature(script: Script, function: ProtocolFunction) -> None:
    """Refuse a function whose parameters no recipe and no window could fill in."""
    code = inspect.unwrap(function.function).__code__
    place = f"{script.path.name} line {code.co_firstlineno}: protocol {function.name}"
    kinds = [one.kind for one in inspect.signature(function.function).parameters.values()]
    keywords = [kind is inspect.Parameter.KEYWORD_ONLY for kind in kinds]
    if not kinds or keywords[0] or not all(keywords[1:]):
        raise BadInputError(
            f"{place}: write the cell first, then '*', then the parameters: "
            f"def {function.name}(cell: Cell, *, window: Voltages = (...)) -> Steps"
        )
    try:
        parameters_schema(function.function)
    except Exception as error:
        raise BadInputError(f"{place}: its parameters cannot be read: {error}") from error


def _nothing_in(module: ModuleType, file: str) -> str:
    """What to write into a file without a protocol."""
    generators = [
        value
        for value in vars(module).values()
        if isinstance(value, FunctionType)
        and inspect.isgeneratorfunction(value)
        and value.__code__.co_filename == file
    ]
    if not generators:
        return "there is no protocol in it; 'operando new protocol NAME' writes an example"
    one = generators[0]
    return (
        "there is no protocol in it; put '@protocol(source=\"...\")' above 'def "
        f"{one.__name__}' in line {one.__code__.co_firstlineno}"
    )

"""MethodSCRIPT as text: from the lines of a script to a tree of statements, or a refusal.

Grammar and command names are those of PalmSens' own parser and published scripts, codes and texts
of refusals those of its SDK (2026). Where several codes would fit, the choice is ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from operando.simulators.devices.palmsens_packages import PREFIXES, TYPES

UNKNOWN_COMMAND = 0x4001
UNEXPECTED_CHARACTER = 0x4004
SCRIPT_TOO_LARGE = 0x4005
OPTION_NOT_VALID = 0x4008
NESTED_MEASUREMENT = 0x400B
NOT_SUPPORTED_HERE = 0x400C
SCOPE_TOO_DEEP = 0x400D
SCOPE_EFFECT = 0x400E
ENDED_EARLY = 0x4018
NOT_IN_MEASUREMENT_LOOP = 0x401A
PACKAGE_SEQUENCE = 0x401B
ALREADY_DECLARED = 0x4026
NAME_CHARACTERS = 0x402B
NAME_TOO_LONG = 0x402C
BAD_ARRAY_ACCESS = 0x4038
BAD_LITERAL = 0x4039
BAD_TYPE = 0x4209
ADDITIONAL_ARGUMENT = 0x420A
NOT_DECLARED = 0x420B
LITERAL_NOT_ALLOWED = 0x420D
ARRAY_NOT_ALLOWED = 0x420E
OPEN_BRACE = 0x4210

DEEPEST = 16
"""Blocks inside each other (assumed)."""
LONGEST_NAME = 32
"""Characters of a variable's name (assumed)."""


class ScriptRefusal(Exception):  # noqa: N818 - the instrument's word is an answer, not a bug
    """A script that is not accepted. line, column: from 1; the column is after the token."""

    def __init__(self, code: int, line: int, column: int) -> None:
        super().__init__(f"{code:04X}: Line {line}, Col {column}")
        self.code = code
        self.line = line
        self.column = column


class ScriptFault(Exception):  # noqa: N818 - see above
    """A script that cannot go on: it ends where it is, without `on_finished:`."""

    def __init__(self, code: int) -> None:
        super().__init__(f"{code:04X}")
        self.code = code


class Leave(Exception):  # noqa: N818 - control flow of a script
    """A loop or the script is left; what is open on the way says that it ends."""


class AbortScript(Leave):
    """`Z` or `abort`: go on at `on_finished:`."""


class AbortLoop(Leave):
    """`Y`: end the measurement loop that runs and go on behind it."""


class BreakLoop(Leave):
    """`breakloop`."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A variable by name, or an element of an array."""

    name: str
    index: Argument | None = None


Argument = float | int | Reference


@dataclass(frozen=True, slots=True)
class Condition:
    """Two operands and what compares them."""

    left: Argument
    operator: str
    right: Argument


@dataclass(frozen=True, slots=True)
class Text:
    """Literal parts and variables of a string, in turn."""

    parts: tuple[str | Reference, ...]


@dataclass(slots=True)
class Statement:
    """One statement. body: what a loop holds; branches: what an `if` holds, in order."""

    line: int
    name: str
    arguments: tuple[Argument | str | Text, ...] = ()
    options: dict[str, tuple[Argument | str, ...]] = field(default_factory=dict)
    condition: Condition | None = None
    body: list[Statement] = field(default_factory=list)
    branches: list[tuple[Condition | None, list[Statement]]] = field(default_factory=list)


@dataclass(slots=True)
class Script:
    """A script that may run. finish: what stands under `on_finished:`."""

    main: list[Statement]
    finish: list[Statement]


# Arguments of a command: o output variable, n number, t variable type, s string, a array, d name
# that is declared. A star repeats the last one.
SIGNATURES = {
    "var": "d", "array": "dn", "store_var": "ont", "copy_var": "no", "alter_vartype": "ot",
    "array_get": "ano", "array_set": "ann", "mean": "ao", "get_time": "o", "get_progress": "o",
    "battery_perc": "o", "get_gpio": "o",
    "set_e": "n", "set_i": "n", "set_int": "n", "await_int": "", "wait": "n",
    "meas": "not", "timer_start": "", "timer_get": "o",
    "pck_start": "", "pck_add": "n", "pck_end": "", "send_string": "s", "set_script_output": "n",
    "set_range": "tn", "set_range_minmax": "tnn", "set_autoranging": "tnn", "set_cr": "n",
    "set_max_bandwidth": "n", "set_pgstat_mode": "n", "set_pgstat_chan": "n", "set_pot_range": "nn",
    "set_poly_we_mode": "n", "cell_on": "", "cell_off": "", "abort": "", "breakloop": "",
    "set_acquisition_frac": "n", "set_acquisition_frac_autoadjust": "n", "set_channel_sync": "n",
    "set_gpio_cfg": "nn", "set_gpio_pullup": "nn", "set_gpio": "n", "notify_led": "n*",
    "beep": "nnn", "set_scan_dir": "n",
    "meas_loop_lsv": "oonnnn", "meas_loop_cv": "oonnnnn", "meas_loop_ca": "oonnn",
    "meas_loop_cp": "oonnn", "meas_loop_ocp": "onn", "meas_loop_lsp": "oonnnn",
    "meas_loop_eis": "ooonnnnn", "meas_loop_geis": "ooonnnnn",
    "meas_loop_dpv": "oonnnnnn", "meas_loop_swv": "oooonnnnn", "meas_loop_npv": "oonnnnn",
}  # fmt: skip
SIGNATURES |= dict.fromkeys(
    ("add_var", "sub_var", "mul_var", "div_var", "mod_var", "pow_var",
     "bit_and_var", "bit_or_var", "bit_xor_var", "bit_lsl_var", "bit_lsr_var"), "on",
)  # fmt: skip
SIGNATURES |= dict.fromkeys(
    ("int_to_float", "float_to_int", "bit_inv_var", "log_var"), "o"
)  # fmt: skip

OPTIONS: dict[str, dict[str, str]] = {
    "cell_on": {"ocp": "o"},
    "meas_loop_cv": {"nscans": "n", "add_meas": "nto"},
    "meas_loop_eis": {"eis_opt": "nn"},
    "meas_loop_geis": {"eis_opt": "nn"},
}
OPTIONS |= {f"meas_loop_{name}": {"add_meas": "nto"} for name in ("lsv", "ca", "cp", "ocp", "lsp")}

_TOKEN = re.compile(
    r"""(?P<blank>[ \t\r]+)|(?P<comment>\#.*)|(?P<string>f?"[^"]*")
    |(?P<number>-?(?:0x[0-9A-Fa-f]*|0b[01]*|\d+)\w*)|(?P<word>[A-Za-z_]\w*:?)
    |(?P<operator>==|!=|<=|>=|[<>&|])|(?P<bracket>[()\[\]])""",
    re.VERBOSE | re.ASCII,
)
_NAME = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
_DECIMAL = re.compile(r"(-?\d+)([afpnumkMGTPE]?)", re.ASCII)
_INTEGER = re.compile(r"-?(?:0x[0-9A-Fa-f]+|0b[01]+)i?|(-?\d+)i", re.ASCII)
_FIELD = re.compile(r"([a-z][a-z0-9_]*)(?:\[([a-z0-9_]+)\])?", re.ASCII)


@dataclass(slots=True)
class _Token:
    kind: str
    text: str
    end: int
    """Column after the token."""


class _Line:
    """The tokens of one line, taken from left to right."""

    def __init__(self, number: int, text: str) -> None:
        self.number = number
        self.tokens: list[_Token] = []
        self.at = 0
        position = 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None or match.lastgroup is None:
                raise ScriptRefusal(UNEXPECTED_CHARACTER, number, position + 1)
            position = match.end()
            if match.lastgroup not in ("blank", "comment"):
                self.tokens.append(_Token(match.lastgroup, match.group(), position + 1))
        self.end = len(text) + 1

    def refuse(self, code: int) -> ScriptRefusal:
        """A refusal at the token that was taken last."""
        taken = self.tokens[: self.at]
        return ScriptRefusal(code, self.number, taken[-1].end if taken else self.end)

    @property
    def next(self) -> _Token | None:
        """The token that comes next."""
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def take(self, *kinds: str) -> _Token:
        """Take a token of one of the kinds. Raises ScriptRefusal."""
        token = self.next
        if token is None:
            raise ScriptRefusal(UNEXPECTED_CHARACTER, self.number, self.end)
        self.at += 1
        if token.kind not in kinds:
            raise self.refuse(UNEXPECTED_CHARACTER)
        return token

    def skip(self, text: str) -> bool:
        """Take the next token if it is `text`."""
        token = self.next
        found = token is not None and token.text == text
        self.at += found
        return found


def _literal(text: str) -> float | int | None:
    """The value of a literal; None for what is none."""
    match = _INTEGER.fullmatch(text)
    if match:
        value = int(match[1]) if match[1] else int(text.rstrip("i"), 0)
        return value if -(2**31) <= value < 2**32 else None
    match = _DECIMAL.fullmatch(text)
    if match is None or len(match[1]) > 11 or abs(int(match[1])) >= 2**31:
        return None
    # float() of a decimal text rounds once: 4200m is exactly the float 4.2.
    return float(f"{match[1]}e{PREFIXES[match[2] or ' ']}")


class _Parser:
    def __init__(self, known: frozenset[str]) -> None:
        self._known = known
        self._variables: set[str] = set()
        self._arrays: set[str] = set()
        self._script = Script([], [])
        # Blocks that are open: the statement, and the list that its next statement joins.
        self._open: list[Statement] = []
        self._lists: list[list[Statement]] = [self._script.main]
        self._finishing = False

    def parse(self, lines: Iterable[str]) -> Script:
        number, column = 0, 1
        for number, text in enumerate(lines, start=1):
            line = _Line(number, text)
            column = line.end
            if line.tokens:
                self._statement(line)
        if self._open:
            raise ScriptRefusal(ENDED_EARLY, number, column)
        return self._script

    def _statement(self, line: _Line) -> None:
        name = line.take("word").text
        if name == "on_finished:":
            if self._open or self._finishing:
                raise line.refuse(SCOPE_EFFECT)
            self._finishing = True
            self._lists = [self._script.finish]
        elif name not in self._known:
            raise line.refuse(UNKNOWN_COMMAND)
        elif name in ("if", "elseif", "else", "endif", "loop", "endloop"):
            self._structure(name, line)
        elif name in SIGNATURES:
            self._command(name, line)
        else:
            raise line.refuse(NOT_SUPPORTED_HERE)
        if line.next is not None:
            line.at += 1
            raise line.refuse(ADDITIONAL_ARGUMENT)

    def _structure(self, name: str, line: _Line) -> None:
        innermost = self._open[-1] if self._open else None
        if name in ("if", "loop"):
            statement = Statement(line.number, name, condition=self._condition(line))
            self._lists[-1].append(statement)
            if name == "if":
                statement.branches.append((statement.condition, []))
            self._enter(statement, statement.branches[-1][1] if name == "if" else statement.body)
            if len(self._open) > DEEPEST:
                raise line.refuse(SCOPE_TOO_DEEP)
        elif name == "endloop":
            if innermost is None or innermost.name == "if":
                raise line.refuse(SCOPE_EFFECT)
            self._leave()
        elif innermost is None or innermost.name != "if" or innermost.branches[-1][0] is None:
            if name == "endif" and innermost is not None and innermost.name == "if":
                self._leave()
                return
            raise line.refuse(SCOPE_EFFECT)
        elif name == "endif":
            self._leave()
        else:
            condition = self._condition(line) if name == "elseif" else None
            innermost.branches.append((condition, []))
            self._lists[-1] = innermost.branches[-1][1]

    def _enter(self, statement: Statement, body: list[Statement]) -> None:
        self._open.append(statement)
        self._lists.append(body)

    def _leave(self) -> None:
        self._open.pop()
        self._lists.pop()

    def _command(self, name: str, line: _Line) -> None:
        arguments = self._arguments(SIGNATURES[name], line)
        statement = Statement(line.number, name, arguments)
        while (token := line.next) is not None and token.kind == "word":
            line.at += 1
            signature = OPTIONS.get(name, {}).get(token.text)
            if signature is None:
                raise line.refuse(OPTION_NOT_VALID if name in OPTIONS else ADDITIONAL_ARGUMENT)
            if not line.skip("("):
                line.take("bracket")
                raise line.refuse(UNEXPECTED_CHARACTER)
            statement.options[token.text] = self._arguments(signature, line)  # type: ignore[assignment]
            if not line.skip(")"):
                raise line.refuse(UNEXPECTED_CHARACTER)
        if name == "breakloop" and all(block.name == "if" for block in self._open):
            raise line.refuse(SCOPE_EFFECT)
        self._lists[-1].append(statement)
        if name.startswith("meas_loop_"):
            if any(block.name.startswith("meas_loop_") for block in self._open):
                raise line.refuse(NESTED_MEASUREMENT)
            self._enter(statement, statement.body)

    def _arguments(self, signature: str, line: _Line) -> tuple[Argument | str | Text, ...]:
        found: list[Argument | str | Text] = []
        repeated = signature.endswith("*")
        kinds = signature.rstrip("*")
        for kind in kinds:
            found.append(self._argument(kind, line))
        while repeated and line.next is not None:
            found.append(self._argument(kinds[-1], line))
        return tuple(found)

    def _argument(self, kind: str, line: _Line) -> Argument | str | Text:
        if kind == "s":
            return self._text(line)
        if kind == "d":
            return self._declaration(line)
        if kind == "t":
            token = line.take("word")
            if token.text not in TYPES:
                raise line.refuse(BAD_TYPE)
            return token.text
        if kind == "a":
            token = line.take("word")
            if token.text not in self._arrays:
                raise line.refuse(NOT_DECLARED)
            return token.text
        value = self._value(line)
        if kind == "o" and not isinstance(value, Reference):
            raise line.refuse(LITERAL_NOT_ALLOWED)
        return value

    def _value(self, line: _Line) -> Argument:
        token = line.take("number", "word")
        if token.kind == "number":
            value = _literal(token.text)
            if value is None:
                raise line.refuse(BAD_LITERAL)
            return value
        return self._reference(line, token.text)

    def _reference(self, line: _Line, name: str) -> Reference:
        if name in self._arrays:
            if not line.skip("["):
                raise line.refuse(ARRAY_NOT_ALLOWED)
            index = self._value(line)
            if not line.skip("]"):
                raise line.refuse(BAD_ARRAY_ACCESS)
            return Reference(name, index)
        if name not in self._variables:
            raise line.refuse(NOT_DECLARED)
        return Reference(name)

    def _declaration(self, line: _Line) -> str:
        name = line.take("word").text
        if not _NAME.fullmatch(name):
            raise line.refuse(NAME_CHARACTERS)
        if len(name) > LONGEST_NAME:
            raise line.refuse(NAME_TOO_LONG)
        if name in self._variables or name in self._arrays:
            raise line.refuse(ALREADY_DECLARED)
        (self._arrays if line.tokens[0].text == "array" else self._variables).add(name)
        return name

    def _condition(self, line: _Line) -> Condition:
        left = self._value(line)
        operator = line.take("operator").text
        return Condition(left, operator, self._value(line))

    def _text(self, line: _Line) -> Text:
        token = line.take("string")
        if not token.text.startswith("f"):
            return Text((token.text[1:-1],))
        parts: list[str | Reference] = []
        rest = token.text[2:-1]
        while True:
            before, brace, rest = rest.partition("{")
            parts.append(before)
            if not brace:
                return Text(tuple(parts))
            inside, closed, rest = rest.partition("}")
            if not closed:
                raise line.refuse(OPEN_BRACE)
            match = _FIELD.fullmatch(inside.strip())
            if match is None:
                raise line.refuse(UNEXPECTED_CHARACTER)
            parts.append(self._field(line, match[1], match[2]))

    def _field(self, line: _Line, name: str, index: str | None) -> Reference:
        if name not in (self._variables if index is None else self._arrays):
            raise line.refuse(NOT_DECLARED)
        if index is None:
            return Reference(name)
        literal = _literal(index)
        if literal is None and index not in self._variables:
            raise line.refuse(NOT_DECLARED)
        return Reference(name, Reference(index) if literal is None else literal)


def parse_script(lines: Iterable[str], known: frozenset[str]) -> Script:
    """Read the lines of a script, without the empty one that ends it.

    known: names of the commands that the instrument has; of those, the ones that are not
    simulated are refused with 400C. Raises ScriptRefusal.
    """
    return _Parser(known).parse(lines)

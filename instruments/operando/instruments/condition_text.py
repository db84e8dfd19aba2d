"""The text of conditions: a tokenizer and a recursive descent parser. Nothing is evaluated.

condition  = both { "or" both }
both       = held { "and" held }
held       = single [ "for" time ]
single     = "(" condition ")" | comparison
comparison = operand compare bound | bound compare operand
compare    = ">=" | "<=" | ">" | "<"
operand    = quantity | "abs" "(" operand ")" | slope | fall | dose
slope      = ( "dV/dt" | "dI/dt" | "dP/dt" | "dT/dt" | "dQ/dt" | "d(" quantity ")/dt" )
             "over" time
fall       = "fall" "of" "abs" "(" quantity ")" [ "after" time ]
dose       = "dose" "of" quantity [ "above" bound ]
bound      = a number with a unit, or a C-rate
"""

from __future__ import annotations

import re
from typing import NamedTuple, NoReturn

from operando.instruments import units
from operando.instruments.conditions import (
    _SLOPES,
    All,
    AnyOf,
    Comparison,
    Condition,
    Held,
    Live,
    Magnitude,
    Operand,
    Operator,
    Per,
    Slope,
    resolve_bound,
)
from operando.instruments.errors import BadInputError
from operando.instruments.histories import Dose, Fall

MAXIMUM_LENGTH = 2000
"""Longest text of a condition, characters."""
MAXIMUM_DEPTH = 30
"""Deepest nesting of parentheses."""

_TOKEN = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<word>[^\W\d][\w²³%°]*|[%°℃]\w*)"
    r"|(?P<compare>>=|<=|≥|≤|>|<)"
    r"|(?P<wrong>==|!=|=|&&?|\|\|?)"
    r"|(?P<sign>[()/*·^+−-])"
)
_KEYWORDS = frozenset(("and", "or", "for", "over", "abs", "fall", "dose", "of", "after", "above"))
_REMEDIES = {
    "=": "measured values are never exactly equal; use >= or <=",
    "&": "write `and`",
    "|": "write `or`",
    "!": "measured values are never exactly equal; use > or <",
}


class _Token(NamedTuple):
    kind: str
    text: str
    start: int
    end: int


class Parser:
    """One text on its way to a condition."""

    def __init__(self, text: str) -> None:
        if len(text) > MAXIMUM_LENGTH:
            raise BadInputError(f"a condition of {len(text)} characters is too long")
        self._text = text
        self._tokens = self._tokenize()
        self._at = 0
        self._depth = 0

    def condition(self) -> Condition:
        """The whole text as a condition. Raises BadInputError."""
        if self._kind == "end":
            self._fail('the condition is empty; write, for example, "voltage >= 4.25 V"')
        condition = self._any()
        if self._kind != "end":
            self._unexpected("the end, `and` or `or`")
        return condition

    def _tokenize(self) -> list[_Token]:
        tokens: list[_Token] = []
        at = 0
        while at < len(self._text):
            found = _TOKEN.match(self._text, at)
            if found is None:
                self._fail(f"{self._text[at]!r} means nothing here", at)
            kind = found.lastgroup or ""
            if kind == "wrong":
                self._fail(_REMEDIES[found[0][0]], at)
            if kind != "space":
                token = found[0]
                if token.lower() in _KEYWORDS:
                    kind, token = "keyword", token.lower()
                tokens.append(_Token(kind, token, at, found.end()))
            at = found.end()
        tokens.append(_Token("end", "", len(self._text), len(self._text)))
        return tokens

    @property
    def _token(self) -> _Token:
        return self._tokens[self._at]

    @property
    def _kind(self) -> str:
        return self._token.kind

    def _take(self, text: str) -> bool:
        if self._token.text == text:
            self._at += 1
            return True
        return False

    def _expect(self, text: str) -> None:
        if not self._take(text):
            self._unexpected(f'"{text}"')

    def _fail(self, message: str, at: int | None = None) -> NoReturn:
        column = self._token.start if at is None else at
        shown = "".join(c if c.isprintable() else " " for c in self._text)
        raise BadInputError(
            f"condition, column {column + 1}: {message}\n  {shown}\n  {' ' * column}^"
        )

    def _unexpected(self, wanted: str) -> NoReturn:
        found = f'"{self._token.text}"' if self._kind != "end" else "the end"
        self._fail(f"expected {wanted}, found {found}")

    def _any(self) -> Condition:
        parts = [self._all()]
        while self._take("or"):
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))

    def _all(self) -> Condition:
        parts = [self._held()]
        while self._take("and"):
            parts.append(self._held())
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _held(self) -> Condition:
        condition = self._single()
        if not self._take("for"):
            return condition
        at = self._token.start
        duration = self._time("for")
        try:
            return Held(condition, duration)
        except BadInputError as error:
            self._fail(str(error), at)

    def _single(self) -> Condition:
        if self._token.text != "(":
            return self._comparison()
        self._depth += 1
        if self._depth > MAXIMUM_DEPTH:
            self._fail("too many parentheses")
        self._at += 1
        condition = self._any()
        self._expect(")")
        self._depth -= 1
        return condition

    def _comparison(self) -> Condition:
        if self._is_bound():
            start = self._at
            self._bound_text()
            operator = self._operator().mirrored
            operand = self._operand()
            after, self._at = self._at, start
            comparison = self._with_bound(operand, operator)
            self._at = after
        else:
            operand = self._operand()
            operator = self._operator()
            if not self._is_bound():
                self._unexpected(f"a value with a unit to compare {operand} with")
            comparison = self._with_bound(operand, operator)
        if self._kind == "compare":
            self._fail("one comparison at a time; join two of them with `and`")
        return comparison

    def _is_bound(self) -> bool:
        token = self._token
        return token.kind == "number" or token.text in ("+", "-", "−", "C")

    def _bound_text(self) -> str:
        """The longest stretch that can belong to a number with its unit."""
        start = self._token.start
        end = start
        while self._kind in ("number", "word") or (
            self._kind == "sign" and self._token.text not in "()"
        ):
            end = self._token.end
            self._at += 1
        return self._text[start:end]

    def _with_bound(self, operand: Operand, operator: Operator) -> Comparison:
        at = self._token.start
        text = self._bound_text()
        try:
            value, per = resolve_bound(operand, text)
            return Comparison(operand, operator, value, per)
        except BadInputError as error:
            self._fail(str(error), at)

    def _operator(self) -> Operator:
        if self._kind != "compare":
            self._unexpected("a comparison (>=, <=, > or <)")
        symbol = self._token.text
        self._at += 1
        return Operator({"≥": ">=", "≤": "<="}.get(symbol, symbol))

    def _operand(self) -> Operand:
        if self._take("abs"):
            self._expect("(")
            self._depth += 1
            if self._depth > MAXIMUM_DEPTH:
                self._fail("too many parentheses")
            operand = self._operand()
            self._depth -= 1
            self._expect(")")
            return Magnitude(operand)
        token = self._token
        if self._take("fall"):
            return self._fall(token)
        if self._take("dose"):
            return self._dose(token)
        if self._kind != "word":
            self._unexpected("the name of a quantity, such as voltage")
        following = self._tokens[self._at + 1].text
        if following == "/" and (token.text in _SLOPES or self._tokens[self._at + 2].text == "dt"):
            if token.text not in _SLOPES:
                self._fail(
                    f'"{token.text}/dt" is not a slope known here; there are '
                    f"{', '.join(f'{name}/dt' for name in _SLOPES)} and d(quantity)/dt"
                )
            self._at += 1
            return self._slope(_SLOPES[token.text], token)
        if token.text == "d" and following == "(":
            self._at += 2
            named = self._live()
            self._expect(")")
            return self._slope(named.name, token)
        return self._live()

    def _live(self) -> Live:
        if self._kind != "word":
            self._unexpected("the name of a quantity, such as voltage")
        try:
            live = Live(self._token.text)
        except BadInputError as error:
            self._fail(str(error))
        self._at += 1
        return live

    def _slope(self, name: str, token: _Token) -> Slope:
        self._expect("/")
        self._expect("dt")
        written = self._text[token.start : self._tokens[self._at - 1].end]
        if not self._take("over"):
            self._fail(f"a slope needs its window: write {written} over 60 s")
        window = self._time("over")
        try:
            return Slope(name, window)
        except BadInputError as error:
            self._fail(str(error), token.start)

    def _fall(self, token: _Token) -> Fall:
        self._expect("of")
        if not self._take("abs"):
            self._fail("a fall is one of a magnitude: write fall of abs(voltage)")
        self._expect("(")
        named = self._live()
        self._expect(")")
        after = self._time("after") if self._take("after") else 0.0
        try:
            return Fall(named.name, after)
        except BadInputError as error:
            self._fail(str(error), token.start)

    def _dose(self, token: _Token) -> Dose:
        self._expect("of")
        named = self._live()
        above = None
        if self._take("above"):
            at = self._token.start
            if not self._is_bound():
                self._unexpected(f"a value with a unit, which {named} must exceed to count")
            above = self._threshold(named, at)
        try:
            return Dose(named.name, above)
        except BadInputError as error:
            self._fail(str(error), token.start)

    def _threshold(self, named: Live, at: int) -> float:
        try:
            value, per = resolve_bound(named, self._bound_text())
        except BadInputError as error:
            self._fail(str(error), at)
        if per is not Per.NOTHING:
            self._fail(f"a value per {per.value} cannot be a threshold", at)
        return value

    def _time(self, keyword: str) -> float:
        at = self._token.start
        if not self._is_bound():
            self._unexpected(f'a time after `{keyword}`, such as "5 s"')
        try:
            return units.parse_quantity(self._bound_text(), "s")
        except BadInputError as error:
            self._fail(str(error), at)

"""Recipe files and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from operando.instruments.conditions import parse
from operando.instruments.errors import BadInputError
from operando.instruments.limits import Action, Limit
from operando.instruments.quantities import CRate, Seconds, parse_quantity
from operando.instruments.recipe import (
    Poll,
    Preflight,
    RecordConditions,
    load_recipe,
    parse_recipe,
)

SKETCH = """\
protocol = "gitt"
title = "First GITT"

[parameters]
rate = "C/10"
pulse = "10 min"

[limits]
over_voltage   = { when = "voltage > 4.30 V for 1 s", action = "trip" }
wet_box        = { when = "h2o > 5 ppm for 60 s", action = "hold", grace = "10 min" }
[limits.hot]
when = "temperature > 60 degC"
action = "warn"
stale_after = "1 min"

[record]
every = "10 s"
on_change = { voltage = "2 mV", temperature = "1 K" }

[poll]
interval = "1 s"
instruments = { glovebox1 = "30 s" }

[preflight]
open_circuit = ["2.3 V", "3.0 V"]
"""


def gitt(cell: object, *, rate: CRate, pulse: Seconds, rest: Seconds = 1800.0) -> None:
    """Titration."""


def test_the_recipe_of_the_sketch_loads(tmp_path: Path) -> None:
    path = tmp_path / "gitt.toml"
    path.write_text(SKETCH, encoding="utf-8")
    recipe = load_recipe(path)
    assert (recipe.path, recipe.protocol, recipe.title) == (path, "gitt", "First GITT")
    assert recipe.source == SKETCH
    assert recipe.parameters == {"rate": "C/10", "pulse": "10 min"}
    assert recipe.limits == (
        Limit("over_voltage", parse("voltage > 4.3 V for 1 s"), Action.TRIP),
        Limit("wet_box", parse("h2o > 5 ppm for 60 s"), Action.HOLD, 600.0),
        Limit("hot", parse("temperature > 60 degC"), Action.WARN, 0.0, 60.0),
    )
    assert recipe.record == RecordConditions(10.0, {"voltage": 0.002, "temperature": 1.0})
    assert recipe.poll == Poll(1.0, {"glovebox1": 30.0})
    assert (recipe.poll.of("glovebox1"), recipe.poll.of("smu1")) == (30.0, 1.0)
    assert recipe.preflight.open_circuit == (2.3, 3.0)
    assert recipe.arguments(gitt) == {"rate": 0.1 / 3600.0, "pulse": 600.0, "rest": 1800.0}


def test_a_recipe_needs_only_its_protocol() -> None:
    recipe = parse_recipe('protocol = "cccv"', Path("r.toml"))
    assert recipe.record == RecordConditions(0.0, {})
    assert recipe.poll == Poll(1.0)
    assert (recipe.limits, recipe.preflight) == ((), Preflight())


def test_what_is_looked_at_before_the_first_step_is_read_in_si_units() -> None:
    recipe = parse_recipe(
        P
        + """[preflight]
contact = ["1 ohm", "200 ohm"]
pressure = ["3 MPa", "8 MPa"]
o2 = "1 ppm"
dew_point = "-60 degC"
override = { open_circuit = "discharged on purpose" }
""",
        Path("r.toml"),
    )
    assert recipe.preflight == Preflight(
        contact=(1.0, 200.0),
        pressure=(3e6, 8e6),
        o2=1e-6,
        dew_point=parse_quantity("-60 degC", "K"),
        override={"open_circuit": "discharged on purpose"},
    )


P = 'protocol = "p"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "r.toml: protocol is missing; write"),
        ('protocl = "p"', 'r.toml line 1: protocl: unknown key; did you mean "protocol"?'),
        ("protocol = 3", "r.toml line 1: protocol: must be a text in quotes, found 3"),
        (P + "[limits]\nhot = 3", "r.toml line 3: [limits] hot: a limit is a table"),
        (
            P + '[limits]\nhot = { when = "temperature > 60", action = "trip" }',
            "r.toml line 3: [limits.hot] when: condition, column 15: ",
        ),
        (
            P + '[limits.hot]\nwhen = "voltage > 4 V"\naction = "tripp"',
            'r.toml line 4: [limits.hot] action: "tripp" is not an action',
        ),
        (
            P + '[limits.hot]\nwhen = "voltage > 4 V"',
            "r.toml line 2: [limits] hot: action is missing",
        ),
        (P + "[record]\nevry = 1", 'r.toml line 3: [record] evry: unknown key; did you mean "eve'),
        (P + '[record]\nevery = "10"', 'r.toml line 3: [record] every: "10" has no unit'),
        (P + '[record]\nevery = "-1 s"', "r.toml line 3: [record] every: '-1 s': must be at least"),
        (
            P + '[record]\non_change = { voltag = "2 mV" }',
            'r.toml line 3: [record.on_change] voltag: unknown quantity; did you mean "voltage"?',
        ),
        (
            P + '[record]\non_change = { elapsed = "2 s" }',
            "r.toml line 3: [record.on_change] elapsed: unknown quantity",
        ),
        (
            P + '[record]\non_change = { voltage = "2 MPa" }',
            'r.toml line 3: [record.on_change] voltage: "2 MPa" is a pressure',
        ),
        (
            P + '[record]\non_change = { temperature = "2 degC" }',
            'r.toml line 3: [record.on_change] temperature: "2 degC" is a temperature; write a '
            "difference",
        ),
        (
            P + '[record.on_change]\nvoltage = "0 mV"',
            "r.toml line 3: [record.on_change] voltage: '0 mV': must be more than 0",
        ),
        (P + '[poll]\ninterval = "0 s"', "r.toml line 3: [poll] interval: '0 s': must be more"),
        (
            P + '[poll.instruments]\nbox = "1 V"',
            'r.toml line 3: [poll.instruments] box: "1 V" is a voltage; expected a time',
        ),
        (
            P + '[preflight]\nopen_circuit = "2.3 V"',
            "r.toml line 3: [preflight] open_circuit: write two voltages",
        ),
        (
            P + '[preflight]\nopen_circuit = ["3 V", "2 V"]',
            "r.toml line 3: [preflight] open_circuit: the lower voltage comes first",
        ),
        (
            P + '[preflight]\ncontact = ["0 ohm", "200 ohm"]',
            "r.toml line 3: [preflight] contact: '0 ohm': must be more than 0",
        ),
        (
            P + "[preflight]\noverride = { open_circiut = 'x' }",
            "r.toml line 3: [preflight.override] open_circiut: unknown key; did you mean "
            '"open_circuit"?',
        ),
        (
            P + "[preflight]\noverride = { disk = ' ' }",
            "r.toml line 3: [preflight.override] disk: say why",
        ),
        (
            P + "[preflight]\noverride = { disk = true }",
            "r.toml line 3: [preflight.override] disk: must be a text in quotes",
        ),
    ],
)
def test_an_error_names_line_table_key_and_remedy(text: str, message: str) -> None:
    with pytest.raises(BadInputError) as caught:
        parse_recipe(text, Path("r.toml"))
    assert str(caught.value).startswith(message)


def test_a_wrong_parameter_is_named_with_its_line() -> None:
    recipe = parse_recipe(SKETCH.replace("pulse =", "puls ="), Path("r.toml"))
    with pytest.raises(BadInputError) as caught:
        recipe.arguments(gitt)
    assert str(caught.value) == (
        'r.toml line 6: [parameters] puls: unknown key; did you mean "pulse"?'
    )
    with pytest.raises(BadInputError, match=r"^r\.toml: \[parameters\] rate: is missing"):
        parse_recipe(P, Path("r.toml")).arguments(gitt)

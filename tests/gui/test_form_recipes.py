"""Fields made from a protocol's schema, and forms filled from recipe files; without Qt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tomli_w

from operando.gui.models.fields import SETTINGS, Kind, fields_of
from operando.gui.models.form import FormState, StartForm
from operando.instruments.errors import BadInputError
from support.forms import CCCV, EVERY, of

PATH = Path("mine.toml")


@pytest.fixture
def form() -> StartForm:
    made = StartForm([CCCV, EVERY])
    made.set_channel("A1")
    return made


# ---- fields ----------------------------------------------------------------------------------


def test_cccv_has_a_field_for_each_parameter_in_its_order() -> None:
    fields = fields_of(CCCV.parameters)
    assert [one.name for one in fields] == list(CCCV.parameters["properties"])  # type: ignore[call-overload]
    rate = of(CCCV)["charge_rate"]
    assert rate.key == "parameters.charge_rate"
    assert rate.title == "Charge rate"
    assert rate.kind is Kind.QUANTITY
    assert rate.default == "C/2"
    assert rate.example == "C/10"
    assert rate.meaning == "Currents as C-rates of the cell's nominal capacity."
    assert of(CCCV)["window"].kind is Kind.WINDOW
    assert of(CCCV)["window"].default == ("2.5 V", "4.25 V")
    assert of(CCCV)["cycles"].kind is Kind.INTEGER
    assert of(CCCV)["constant_voltage"].default is True
    assert of(CCCV)["cv_cutoff"].title == "CV cutoff"


@pytest.mark.parametrize(
    ("name", "kind", "default"),
    [
        ("pulse", Kind.QUANTITY, ""),
        ("rate", Kind.QUANTITY, "C/10"),
        ("water", Kind.QUANTITY, "5 ppm"),
        ("heat", Kind.QUANTITY, ""),
        ("swing", Kind.QUANTITY, "2 K"),
        ("window", Kind.WINDOW, ("2.5 V", "4.25 V")),
        ("count", Kind.INTEGER, "3"),
        ("factor", Kind.NUMBER, "1.5"),
        ("fast", Kind.BOOLEAN, False),
        ("name", Kind.TEXT, "x"),
        ("order", Kind.CHOICE, "down"),
        ("mode", Kind.CHOICE, "slow"),
        ("rates", Kind.LIST, "C/10, C/2"),
        ("steps", Kind.LIST, "1, 2"),
        ("holds", Kind.LIST, "4.1 V"),
    ],
)
def test_every_kind_of_parameter_becomes_a_field(name: str, kind: Kind, default: object) -> None:
    one = of(EVERY)[name]
    assert (one.kind, one.default) == (kind, default)


def test_a_field_says_whether_it_must_or_may_be_written() -> None:
    fields = of(EVERY)
    assert fields["pulse"].required
    assert not fields["count"].required
    assert fields["heat"].optional
    assert not fields["pulse"].optional
    assert fields["pulse"].meaning == "How long the pulse lasts, in words."


def test_a_unit_hint_names_units_that_people_write() -> None:
    assert of(EVERY)["pulse"].unit_hint == "s, min, h"
    assert of(EVERY)["rate"].unit_hint == "C/10, 2C"
    assert of(EVERY)["count"].unit_hint == ""


def test_a_schema_that_says_nothing_gives_texts_or_no_fields() -> None:
    assert fields_of({}) == ()
    (odd,) = fields_of({"properties": {"odd": {"type": "object"}}})
    assert (odd.kind, odd.title, odd.default) == (Kind.TEXT, "Odd", "")


@pytest.mark.parametrize(
    ("name", "value", "sent"),
    [
        ("pulse", " 10 min", " 10 min"),
        ("count", " 12 ", 12),
        ("count", "1.5", "1.5"),
        ("count", "", ""),
        ("factor", "2.5e3", 2500.0),
        ("factor", "inf", "inf"),
        ("factor", "much", "much"),
        ("fast", True, True),
        ("window", ("2.5 V", "4 V"), ["2.5 V", "4 V"]),
        ("heat", " ", None),
        ("order", "up", "up"),
        ("rates", "C/10, , 1C ", ["C/10", "1C"]),
        ("steps", "1, x", [1, "x"]),
    ],
)
def test_a_value_is_sent_as_typed_or_as_the_number_that_it_is(
    name: str, value: Any, sent: object
) -> None:
    assert of(EVERY)[name].to_request(value) == sent


def test_settings_have_names_for_their_widgets() -> None:
    names = [one.name for one in SETTINGS]
    assert names[:2] == ["poll-interval", "record-every"]
    assert len(set(names)) == len(names)


# ---- recipes ---------------------------------------------------------------------------------

RECIPE = """\
protocol = "cccv"
title = "Formation"
notes = "after two days"

[parameters]
cycles = 3
charge_rate = "C/10"
rest = 600
window = ["2.6 V", "4.2 V"]
constant_voltage = false

[limits]
over_pressure = { when = "pressure > 12 MPa", action = "trip", stale_after = 600 }

[poll]
interval = 5
instruments = { glovebox1 = "30 s" }

[record]
on_change = { pressure = "20 kPa", temperature = "2 K" }

[preflight]
open_circuit = [2.3, "3.0 V"]
"""


def test_a_recipe_fills_the_form(form: StartForm) -> None:
    form.choose("every")
    form.load_recipe(RECIPE, PATH)
    assert form.protocol == "cccv"
    assert form.value("parameters.cycles") == "3"
    assert form.value("parameters.window") == ("2.6 V", "4.2 V")
    assert form.value("parameters.constant_voltage") is False
    assert form.value("parameters.discharge_rate") == "C/2"
    assert form.value("poll.interval") == "5 s"
    assert form.value("record.every") == ""
    assert form.value("record.on_change.voltage") == ""
    assert form.value("record.on_change.pressure") == "20 kPa"
    assert form.value("preflight.open_circuit") == ("2.3 V", "3.0 V")
    assert form.value("title") == "Formation"
    (row,) = form.limits
    assert (row.name, row.stale_after) == ("over_pressure", "600 s")
    assert set(form.carried) == {"poll.instruments", "record.on_change.temperature"}
    assert form.state is FormState.EDITING


def test_a_number_of_a_recipe_is_judged_as_the_number_until_it_is_edited(form: StartForm) -> None:
    form.load_recipe(RECIPE, PATH)
    assert form.value("parameters.rest") == "600"
    assert form.request().parameters["rest"] == 600
    form.set("parameters.rest", "60")
    assert form.request().parameters["rest"] == "60"


def test_a_request_made_from_a_recipe_makes_the_same_request_as_a_recipe(form: StartForm) -> None:
    form.load_recipe(RECIPE, PATH)
    request = form.request()
    assert request.record["on_change"] == {"pressure": "20 kPa", "temperature": "2 K"}
    assert request.poll == {"interval": "5 s", "instruments": {"glovebox1": "30 s"}}
    written = {key: value for key, value in request.model_dump().items() if value}
    del written["recipe_name"]
    form.choose("every")
    form.load_recipe(tomli_w.dumps(written), PATH)
    assert form.request() == request


def test_a_form_round_trips_through_a_recipe(form: StartForm) -> None:
    form.set("parameters.charge_rate", "1C")
    form.set("preflight.override.open_circuit", "discharged on purpose")
    row = form.add_limit()
    form.edit_limit(row.key, name="high", when="voltage > 4.3 V", action="hold", grace="1 s")
    request = form.request()
    written = {key: value for key, value in request.model_dump().items() if value}
    del written["recipe_name"]
    other = StartForm([CCCV])
    other.load_recipe(tomli_w.dumps(written), PATH)
    assert other.request() == request


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("protocol = ", "mine.toml: not valid TOML"),
        ("", "mine.toml: protocol is missing"),
        ('protocol = "gitt"', 'mine.toml line 1: this station has no protocol "gitt"'),
        (
            'protocol = "cccv"\n[parameters]\ncycle = 2',
            'mine.toml line 3: [parameters] cycle: unknown key; did you mean "cycles"?',
        ),
        (
            'protocol = "cccv"\n[parameters]\nconstant_voltage = 1',
            "mine.toml line 3: [parameters] constant_voltage: must be true or false",
        ),
        (
            'protocol = "cccv"\n[parameters]\nwindow = ["2.5 V"]',
            "mine.toml line 3: [parameters] window: write two voltages",
        ),
        (
            'protocol = "cccv"\n[parameters]\nrest = { a = 1 }',
            "mine.toml line 3: [parameters] rest: {'a': 1} does not fit here",
        ),
        (
            'protocol = "every"\n[parameters]\norder = "sideways"',
            "mine.toml line 3: [parameters] order: 'sideways' is not among up, down",
        ),
        ('protocol = "cccv"\n[poll]\ninterval = "x"', "mine.toml line 3: [poll] interval"),
        ('protocol = "cccv"\n[limits]\na = { when = "x > 1 V" }', "mine.toml line 3: [limits] a"),
    ],
)
def test_a_wrong_recipe_is_refused_with_its_line_and_changes_nothing(
    form: StartForm, source: str, said: str
) -> None:
    form.set("parameters.cycles", "7")
    before, revision = form.request(), form.revision
    with pytest.raises(BadInputError) as raised:
        form.load_recipe(source, PATH)
    assert said in str(raised.value)
    assert form.request() == before
    assert form.revision == revision


def test_a_recipe_of_every_kind_comes_back_as_it_was(form: StartForm) -> None:
    parameters: dict[str, Any] = {
        "pulse": "10 min", "rate": "C/3", "water": "1 ppm", "heat": "60 degC", "swing": "1 K",
        "window": ["2 V", "4 V"], "count": 5, "factor": 2.5, "fast": True, "name": "y",
        "order": "up", "mode": "fast", "rates": ["1C", "2C"], "steps": [4], "holds": ["4 V"],
    }  # fmt: skip
    form.load_recipe(tomli_w.dumps({"protocol": "every", "parameters": parameters}), PATH)
    assert form.request().parameters == parameters

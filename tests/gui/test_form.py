"""The form that starts a run, without Qt: texts, the station's answers, starting, limits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from operando.gui.models.form import FormState, StartForm
from operando.instruments.errors import BadInputError
from operando.station.client import CheckReport, LimitInfo, Problem, ProtocolInfo, SheetRow
from support.forms import CCCV, EVERY, of


@pytest.fixture
def form() -> StartForm:
    made = StartForm([CCCV, EVERY])
    made.set_channel("A1")
    return made


def answer(form: StartForm, **report: Any) -> bool:
    """Ask, and let the station answer at once."""
    check = form.begin_check()
    assert check is not None
    return form.take_report(check, CheckReport(**({"ok": True} | report)))


def state(form: StartForm) -> FormState:
    """Where it stands now; a call, so that mypy does not believe what was true a line above."""
    return form.state


def default_limit(name: str, when: str) -> LimitInfo:
    return LimitInfo(name=f"{name} (default)", when=when, action="trip")


# ---- values ----------------------------------------------------------------------------------


def test_a_request_writes_every_parameter_out(form: StartForm) -> None:
    form.set("parameters.charge_rate", "1C")
    form.set("parameters.window", ("2.6 V", "4.2 V"))
    request = form.request()
    assert request.protocol == "cccv"
    assert set(request.parameters) == set(of(CCCV))
    assert request.parameters["charge_rate"] == "1C"
    assert request.parameters["window"] == ["2.6 V", "4.2 V"]
    assert request.parameters["cycles"] == 1
    assert request.parameters["constant_voltage"] is True


def test_a_request_says_how_often_is_read_and_recorded(form: StartForm) -> None:
    request = form.request()
    assert request.poll == {"interval": "1 s"}
    assert request.record == {"every": "10 s", "on_change": {"voltage": "5 mV"}}
    assert request.preflight == {}
    assert (request.title, request.notes) == ("", "")


def test_settings_that_are_changed_or_emptied_change_the_request(form: StartForm) -> None:
    form.set("record.every", " ")
    form.set("record.on_change.voltage", "")
    form.set("record.on_change.pressure", "20 kPa")
    form.set("preflight.override.open_circuit", "discharged on purpose")
    form.set("title", "Formation")
    form.set("notes", "two\nlines")
    request = form.request()
    assert request.record == {"on_change": {"pressure": "20 kPa"}}
    assert request.preflight == {"override": {"open_circuit": "discharged on purpose"}}
    assert (request.title, request.notes) == ("Formation", "two\nlines")


def test_accepted_voltages_at_rest_are_sent_when_they_are_written(form: StartForm) -> None:
    form.set("preflight.open_circuit", ("2.3 V", "3 V"))
    assert form.request().preflight == {"open_circuit": ["2.3 V", "3 V"]}


def test_a_field_is_changed_until_its_default_is_written_again(form: StartForm) -> None:
    assert form.set("parameters.cycles", "2")
    assert form.changed("parameters.cycles")
    assert form.any_changed
    assert not form.set("parameters.cycles", "2")
    assert form.set("parameters.cycles", "1")
    assert not form.changed("parameters.cycles")
    assert not form.any_changed


def test_each_protocol_remembers_its_texts(form: StartForm) -> None:
    form.set("parameters.cycles", "7")
    form.choose("every")
    form.set("parameters.count", "9")
    form.choose("cccv")
    assert form.value("parameters.cycles") == "7"
    form.choose("every")
    assert form.value("parameters.count") == "9"
    form.choose("none such")
    assert form.protocol == "every"


def test_defaults_forget_what_was_typed_for_this_protocol_alone(form: StartForm) -> None:
    form.choose("every")
    form.set("parameters.count", "9")
    form.choose("cccv")
    form.set("parameters.cycles", "7")
    form.add_limit()
    form.reset()
    assert form.value("parameters.cycles") == "1"
    assert not form.limits
    form.choose("every")
    assert form.value("parameters.count") == "9"


def test_texts_say_where_they_come_from(form: StartForm) -> None:
    assert form.origin == ""
    form.set("parameters.window", ("2.6 V", "4.2 V"))
    form.set("parameters.constant_voltage", False)
    assert form.origin == ""  # typed for this channel
    form.set_channel("A2")
    assert form.origin == "as typed for A1"
    assert form.changes == ("Window 2.6 V to 4.2 V", "Constant voltage off")
    answer(form)
    form.begin_start()
    form.start_done()
    assert form.origin == "as last started on A2"
    form.reopen()
    form.set("parameters.cycles", "2")
    assert form.origin == "as last started on A2, then edited"
    form.reset()
    form.set("parameters.cycles", "3")
    assert form.origin == ""
    assert list(form.changes) == ["Cycles 3"]


def test_texts_of_a_recipe_say_its_name(form: StartForm) -> None:
    form.load_recipe('protocol = "cccv"\n[parameters]\ncycles = 4\n', Path("mine.toml"))
    assert form.origin == "as in mine.toml"
    assert "Cycles 4" in form.changes


def test_a_station_with_other_protocols_keeps_what_still_fits(form: StartForm) -> None:
    form.set("parameters.cycles", "7")
    smaller = {"properties": {"cycles": {"type": "integer", "default": 1}}}
    form.set("parameters.charge_rate", "1C")
    form.set_protocols([ProtocolInfo(name="cccv", summary="", source="", parameters=smaller)])
    assert form.value("parameters.cycles") == "7"
    assert dict(form.request().parameters) == {"cycles": 7}
    form.set_protocols([EVERY])
    assert form.protocol == "every"


def test_without_protocols_there_is_nothing_to_ask() -> None:
    form = StartForm()
    form.set_channel("A1")
    assert form.protocol == ""
    assert form.fields == ()
    assert form.begin_check() is None


# ---- what the station says -------------------------------------------------------------------


def test_a_good_report_lets_the_form_start_until_the_next_edit(form: StartForm) -> None:
    assert state(form) is FormState.EDITING
    assert not form.can_start
    check = form.begin_check()
    assert check is not None
    assert state(form) is FormState.CHECKING
    assert not form.can_start
    assert form.take_report(check, CheckReport(ok=True, derived={"parameters.rest": "600 s"}))
    assert state(form) is FormState.READY
    assert form.can_start
    form.set("parameters.cycles", "2")
    assert state(form) is FormState.EDITING
    assert not form.can_start
    assert not form.current


def test_a_report_about_older_texts_is_dropped(form: StartForm) -> None:
    old = form.begin_check()
    form.set("parameters.charge_rate", "half")
    new = form.begin_check()
    assert old is not None
    assert new is not None
    assert not form.take_report(old, CheckReport(ok=True))
    assert form.report is None
    assert form.take_report(new, CheckReport(ok=False))
    assert not form.take_report(new, CheckReport(ok=True))
    assert state(form) is FormState.REFUSED


def test_a_report_for_another_channel_is_dropped(form: StartForm) -> None:
    check = form.begin_check()
    form.set_channel("A2")
    assert check is not None
    assert check.channel == "A1"
    assert not form.take_report(check, CheckReport(ok=True))
    assert form.begin_check() is not None


def test_problems_come_to_their_fields_and_the_others_to_the_whole(form: StartForm) -> None:
    answer(
        form,
        ok=False,
        problems=(
            Problem(where="parameters.charge_rate", message="is no rate"),
            Problem(where="parameters.window.1", message="is no voltage"),
            Problem(where="parameters.window", message="too narrow"),
            Problem(where="poll.interval", message="too short"),
            Problem(where="record.on_change.voltage", message="no change"),
            Problem(where="protocol", message="gone"),
            Problem(where="", message="no cell"),
        ),
    )
    assert form.problem("parameters.charge_rate") == "is no rate"
    assert form.problem("parameters.window") == "is no voltage\ntoo narrow"
    assert form.problem("poll.interval") == "too short"
    assert form.problem("record.on_change.voltage") == "no change"
    assert form.problem("parameters.rest") == ""
    assert form.general == ("gone", "no cell")
    assert form.places() == ("Charge rate", "Window", "Read every", "Voltage change")
    assert form.outcome is None
    answer(form)
    assert not form.general
    assert form.problem("parameters.charge_rate") == ""


def test_a_derived_value_is_shown_beside_the_text_that_it_belongs_to_only(form: StartForm) -> None:
    answer(form, derived={"parameters.charge_rate": "1.569 mA"})
    assert form.derived("parameters.charge_rate") == "1.569 mA"
    assert form.derived("parameters.rest") == ""
    form.set("parameters.charge_rate", "1C")
    assert form.derived("parameters.charge_rate") == ""
    form.set("parameters.charge_rate", "C/2")
    assert form.derived("parameters.charge_rate") == "1.569 mA"
    form.set_channel("A2")
    assert form.derived("parameters.charge_rate") == ""


def test_a_station_that_does_not_answer_leaves_the_form_unchecked(form: StartForm) -> None:
    check = form.begin_check()
    assert check is not None
    assert form.check_failed(check, "the station does not answer")
    assert form.trouble == "the station does not answer"
    assert state(form) is FormState.EDITING
    assert not form.can_start
    assert not form.check_failed(check, "again")
    answer(form)
    assert form.trouble == ""


# ---- starting --------------------------------------------------------------------------------


def test_a_start_sends_what_was_checked(form: StartForm) -> None:
    form.set("parameters.charge_rate", "1C")
    with pytest.raises(BadInputError, match="not found good"):
        form.begin_start()
    answer(form)
    order = form.begin_start()
    assert state(form) is FormState.STARTING
    assert order.channel == "A1"
    assert order.request.parameters["charge_rate"] == "1C"
    assert form.begin_check() is None
    with pytest.raises(BadInputError):
        form.begin_start()
    form.start_done()
    assert state(form) is FormState.STARTED
    assert not form.can_start


def test_a_refused_start_keeps_the_texts_and_may_be_tried_again(form: StartForm) -> None:
    form.set("parameters.charge_rate", "1C")
    answer(form)
    form.begin_start()
    form.start_refused("smu1 does not answer")
    assert state(form) is FormState.FAILED
    assert form.refusal == "smu1 does not answer"
    assert form.value("parameters.charge_rate") == "1C"
    assert form.can_start
    form.set("parameters.charge_rate", "C/2")
    assert form.refusal == ""
    assert not form.can_start


def test_a_start_that_is_refused_with_problems_asks_for_another_check(form: StartForm) -> None:
    answer(form)
    form.begin_start()
    problems = [
        Problem(where="parameters.rest", message="too long"),
        Problem(where="", message="the bench has changed"),
    ]
    form.start_refused("the bench has changed", problems)
    assert form.problem("parameters.rest") == "too long"
    assert form.general == ()
    assert not form.can_start
    answer(form)
    assert form.can_start


@pytest.mark.parametrize("act", ["set", "choose", "channel", "protocols"])
def test_a_start_under_way_is_not_forgotten_whatever_happens(form: StartForm, act: str) -> None:
    answer(form)
    form.begin_start()
    acts: dict[str, Callable[[], object]] = {
        "set": lambda: form.set("parameters.cycles", "2"),
        "choose": lambda: form.choose("every"),
        "channel": lambda: form.set_channel("A2"),
        "protocols": lambda: form.set_protocols([EVERY]),
    }
    acts[act]()
    assert state(form) is FormState.STARTING
    assert not form.can_start
    form.start_refused("no")
    assert not form.can_start  # these texts were never checked


def test_a_form_that_is_opened_again_asks_again_with_the_last_texts(form: StartForm) -> None:
    form.set("parameters.cycles", "4")
    answer(form)
    form.begin_start()
    form.start_done()
    form.reopen()
    assert state(form) is FormState.EDITING
    assert form.value("parameters.cycles") == "4"
    assert not form.can_start
    answer(form)
    assert form.can_start


# ---- limits ----------------------------------------------------------------------------------


def test_limits_that_the_station_adds_are_shown_and_not_sent(form: StartForm) -> None:
    answer(form, limits=(default_limit("over_voltage", "voltage > 4.3 V"),))
    (row,) = form.limits
    assert (row.name, row.when, row.action, row.own) == (
        "over_voltage", "voltage > 4.3 V", "trip", False,
    )  # fmt: skip
    assert form.request().limits == {}


def test_a_default_limit_that_is_edited_becomes_an_own_one(form: StartForm) -> None:
    answer(form, limits=(default_limit("over_voltage", "voltage > 4.3 V"),))
    (row,) = form.limits
    form.edit_limit(row.key, when="voltage > 4.3 V")
    assert not row.own
    form.edit_limit(row.key, when="voltage > 4.28 V")
    (same,) = form.limits
    assert same is row
    assert row.own
    assert form.request().limits == {"over_voltage": {"when": "voltage > 4.28 V", "action": "trip"}}
    form.remove_limit(row.key)
    assert form.limits == ()
    answer(form, limits=(default_limit("over_voltage", "voltage > 4.3 V"),))
    assert [one.own for one in form.limits] == [False]


def test_default_limits_keep_their_place_and_follow_the_station(form: StartForm) -> None:
    answer(form, limits=(default_limit("over_voltage", "voltage > 4.3 V"),))
    key = form.limits[0].key
    own = form.add_limit()
    assert [row.key for row in form.limits] == [own.key, key]
    answer(form, limits=(default_limit("over_voltage", "voltage > 4.4 V"),))
    assert form.limits[1].key == key
    assert form.limits[1].when == "voltage > 4.4 V"
    answer(form, ok=False)  # did not come as far as the limits
    assert len(form.limits) == 2
    answer(form)
    assert [row.key for row in form.limits] == [own.key]
    answer(form, limits=(default_limit("over_voltage", "voltage > 4.4 V"),))
    form.set_channel("A2")  # what another cell's plan asks for is not known yet
    assert [row.key for row in form.limits] == [own.key]


def test_a_blank_limit_is_left_out_and_one_with_grace_is_sent_whole(form: StartForm) -> None:
    form.add_limit()
    row = form.add_limit()
    form.edit_limit(row.key, name=" wet ", when="h2o > 5 ppm", action="hold", grace="10 min")
    form.edit_limit(row.key, stale_after="1 min")
    assert form.request().limits == {
        "wet": {
            "when": "h2o > 5 ppm", "action": "hold", "grace": "10 min", "stale_after": "1 min",
        }
    }  # fmt: skip
    with pytest.raises(ValueError, match="a limit has"):
        form.edit_limit(row.key, colour="red")


def test_problems_of_limits_come_to_their_rows(form: StartForm) -> None:
    answer(form, limits=(default_limit("over_voltage", "voltage > 4.3 V"),))
    own = form.add_limit()
    form.edit_limit(own.key, name="a.b", when="pressure > 5")
    answer(
        form,
        ok=False,
        problems=(
            Problem(where="limits.a.b.when", message="no unit"),
            Problem(where="limits.a.b", message="odd"),
            Problem(where="limits.over_voltage (default).stale_after", message="too short"),
            Problem(where="limits.unknown.when", message="lost"),
        ),
    )
    assert form.limit_problems(own.key) == {"when": "no unit", "": "odd"}
    assert form.limit_problems(form.limits[1].key) == {"stale_after": "too short"}
    assert form.general == ("lost",)
    assert form.places() == ("a.b", "over_voltage")


@pytest.mark.parametrize(
    ("names", "said"), [(("", "ok"), "give the limit a name"), (("one", " one"), "another limit")]
)
def test_limits_that_no_request_can_express_hold_the_form_back(
    form: StartForm, names: tuple[str, str], said: str
) -> None:
    rows = [form.add_limit(), form.add_limit()]
    for row, name in zip(rows, names, strict=True):
        form.edit_limit(row.key, name=name, when="voltage > 4.3 V")
    answer(form)
    told = [form.limit_problems(row.key).get("name", "") for row in rows]
    assert any(message.startswith(said) for message in told)
    assert state(form) is FormState.REFUSED
    assert form.outcome is None
    assert not form.can_start
    form.edit_limit(rows[0].key, name="first")
    form.edit_limit(rows[1].key, name="second")
    answer(form)
    assert form.can_start


def test_a_sheet_row_is_part_of_the_outcome(form: StartForm) -> None:
    row = SheetRow(
        name="a", when="b", action="trip", layers=("runner",), latency=1.0, without_host="NOTHING"
    )
    answer(form, sheet=(row,), warnings=("read this",))
    assert form.outcome is not None
    assert form.outcome.sheet == (row,)
    assert form.warnings == ("read this",)


# ---- starts that are asked for again ---------------------------------------------------------


def test_a_start_that_was_not_answered_is_the_same_start_when_it_is_tried_again(
    form: StartForm,
) -> None:
    answer(form)
    first = form.begin_start()
    form.start_lost("the station does not answer")
    assert (state(form), form.refusal) == (FormState.FAILED, "the station does not answer")
    assert form.begin_start() == first
    form.start_done()
    form.reopen()
    answer(form)
    assert form.begin_start().request_id not in ("", first.request_id)


@pytest.mark.parametrize("refused", [True, False])
def test_a_start_that_was_refused_or_changed_is_another_start(
    form: StartForm, refused: bool
) -> None:
    answer(form)
    first = form.begin_start()
    if refused:
        form.start_refused("no")
    else:
        form.start_lost("gone")
        form.set("parameters.charge_rate", "2C")
        answer(form)
    assert form.begin_start().request_id != first.request_id

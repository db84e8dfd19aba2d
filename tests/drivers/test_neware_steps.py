"""Step files, leaf by leaf, and which of them are run."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence

import pytest

from operando.drivers.neware_steps import (
    Bounds,
    CurrentStep,
    LoopStep,
    Recording,
    RestStep,
    ScanStep,
    Step,
    VoltageStep,
    bounds_of,
    step_file,
)
from operando.instruments.errors import BadInputError

BOUNDS = Bounds(2.45, 4.3, 5.5e-3, delay=1.0, charge=36.0)

CCCV = """\
<?xml version="1.0" encoding="UTF-8"?>
<root>
  <config type="Step File" version="17" client_version="BTS Client 8.0.0.478(2024.06.24)(R3)" \
date="20260101120000" Guid="?">
    <Head_Info>
      <Operate Value="66" />
      <Scale Value="1" />
      <Start_Step Value="1" Hide_Ctrl_Step="0" />
      <Creator Value="operando" />
      <Remark Value="a1" />
      <RateType Value="103" />
    </Head_Info>
    <Whole_Prt>
      <Protect>
        <Main>
          <Volt>
            <Upper Value="43000.000000" />
            <Lower Value="24500.000000" />
          </Volt>
          <Curr>
            <Upper Value="5.500000" />
            <Lower Value="-5.500000" />
          </Curr>
          <Delay_Time Value="1000.000000" />
          <Cap>
            <Upper Value="36000.000000" />
          </Cap>
        </Main>
      </Protect>
      <Record>
        <Main>
          <Time Value="1000.000000" />
        </Main>
      </Record>
    </Whole_Prt>
    <Step_Info Num="3">
      <Step1 Step_ID="1" Step_Type="1">
        <Limit>
          <Main>
            <Curr Value="1.569000" />
            <Time Value="604800000.000000" />
            <Stop_Volt Value="42500.000000" />
          </Main>
        </Limit>
      </Step1>
      <Step2 Step_ID="2" Step_Type="3">
        <Limit>
          <Main>
            <Volt Value="42500.000000" />
            <Time Value="604800000.000000" />
            <Curr Value="1.569000" />
          </Main>
        </Limit>
      </Step2>
      <Step3 Step_ID="3" Step_Type="6" />
    </Step_Info>
    <SMBUS>
      <SMBUS_Info Num="0" AdjacentInterval="0" />
    </SMBUS>
  </config>
</root>"""


def written(*steps: Step, recording: Recording = Recording()) -> str:  # noqa: B008  (frozen)
    """A step file."""
    return step_file(steps, BOUNDS, recording, date="20260101120000", remark="a1")


def leaves(text: str, number: int) -> tuple[str, dict[str, str]]:
    """Type of a step, and its leaves with the unit taken off."""
    step = ET.fromstring(text).find(f"config/Step_Info/Step{number}")
    assert step is not None
    found = {item.tag: item.get("Value", "") for item in step.iter() if item.get("Value")}
    return step.get("Step_Type", ""), found


def test_a_charge_held_at_its_cut_off_is_written_as_documented() -> None:
    text = written(
        CurrentStep(1.569e-3, 4.25, 604800.0),
        VoltageStep(4.25, True, current_limit=1.569e-3, longest=604800.0),
    )
    guid = text.partition('Guid="')[2].partition('"')[0]
    assert len(guid) == 36
    assert text.replace(guid, "?") == CCCV


@pytest.mark.parametrize(
    ("step", "kind", "wanted"),
    [
        (CurrentStep(-1e-3, 2.5), "2", {"Curr": "1.000000", "Stop_Volt": "25000.000000"}),
        (
            VoltageStep(2.5, False, until_current=1e-4),
            "19",
            {"Volt": "25000.000000", "Stop_Curr": "0.100000"},
        ),
        (RestStep(600.0), "4", {"Time": "600000.000000"}),
        (ScanStep(2.5, 4.25, 1e-4), "25", {"Slope1": "0.100000"}),
    ],
)
def test_each_kind_of_step_has_its_number_and_units(
    step: Step, kind: str, wanted: dict[str, str]
) -> None:
    assert leaves(written(step), 1) == (kind, wanted)


def test_a_loop_goes_back_to_a_step_before_it() -> None:
    text = written(RestStep(60.0), LoopStep(1, 100))
    assert leaves(text, 2) == ("5", {"Start_Step": "1", "Cycle_Count": "100"})
    with pytest.raises(BadInputError, match="cannot go back"):
        written(RestStep(60.0), LoopStep(2, 100))


def test_a_current_without_an_end_is_refused() -> None:
    with pytest.raises(BadInputError, match="voltage where it stops"):
        CurrentStep(1e-3)


def test_rows_are_stored_at_changes_too() -> None:
    recording = Recording(10.0, voltage=5e-3, current=1e-4)
    main = ET.fromstring(written(RestStep(1.0), recording=recording)).find(
        "config/Whole_Prt/Record/Main"
    )
    assert main is not None
    assert [(item.tag, item.get("Value")) for item in main] == [
        ("Time", "10000.000000"), ("Volt", "50.000000"), ("Curr", "0.100000"),
    ]  # fmt: skip


def test_the_same_schedule_is_the_same_file() -> None:
    assert written(RestStep(60.0)) == written(RestStep(60.0))
    assert written(RestStep(60.0)) != written(RestStep(61.0))


def test_the_bounds_of_a_file_are_read_back() -> None:
    found = bounds_of(written(RestStep(60.0)))
    assert (found.lowest, found.highest) == pytest.approx((2.45, 4.3))
    assert found.current == pytest.approx(5.5e-3)


REPLACED: Sequence[tuple[str, str, str]] = (
    ('<Upper Value="43000.000000" />', "", "no Protect/Main/Volt/Upper"),
    ('<Lower Value="24500.000000" />', "", "no Protect/Main/Volt/Lower"),
    ('<Upper Value="5.500000" />', '<Upper Value="much" />', "no Protect/Main/Curr/Upper"),
    ('Num="3"', 'Num="4"', "no step file"),
    ('Step_Type="6"', 'Step_Type="4"', "must be the end"),
    ("Step2", "Step7", "has <Step7>"),
    ("<root>", "<!DOCTYPE root><root>", "declaration"),
    ("</root>", "", "not XML"),
)


@pytest.mark.parametrize(("old", "new", "why"), REPLACED)
def test_a_file_without_bounds_or_end_is_refused(old: str, new: str, why: str) -> None:
    assert old in CCCV
    with pytest.raises(BadInputError, match=why):
        bounds_of(CCCV.replace(old, new))

"""Values and conditions as people read them."""

from __future__ import annotations

import pytest

from operando.instruments.conditions import parse
from operando.instruments.units import parse_quantity
from operando.instruments.words import (
    bound_words,
    condition_text_words,
    condition_words,
    quantity_words,
    tidy,
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("elapsed >= 10 min", "after 10 min"),
        ("elapsed < 10 min", "elapsed < 10 min"),
        ("voltage >= 4.25 V", "voltage ≥ 4.25 V"),
        ("voltage <= -0.5 V", "voltage ≤ −0.5 V"),
        ("voltage >= 4.2503 V", "voltage ≥ 4.2503 V"),
        ("abs(current) <= 156.87999 uA", "|current| ≤ 156.9 µA"),
        ("abs(current) > 3.76512 mA", "|current| > 3.765 mA"),
        ("abs(current) <= C/20", "|current| ≤ C/20"),
        ("abs(dV/dt over 60 s) < 0.1 mV/min", "|dV/dt over 60 s| < 0.1 mV/min"),
        ("step_charge <= -2 mAh", "step charge ≤ −2 mAh"),
        ("temperature > 60 degC", "temperature > 60 °C"),
        ("cycle >= 3", "cycle ≥ 3"),
        ("pressure > 8 MPa for 5 s", "pressure > 8 MPa for 5 s"),
        (
            "(voltage > 4.2 V or pressure > 8 MPa) and elapsed > 1 h",
            "(voltage > 4.2 V or pressure > 8 MPa) and after 1 h",
        ),
        ("voltage > 4.2 V or elapsed > 1 h", "voltage > 4.2 V or after 1 h"),
    ],
)
def test_a_condition_is_said_as_people_say_it(text: str, words: str) -> None:
    assert condition_words(parse(text)) == words
    assert condition_text_words(text) == words


def test_a_text_that_is_no_condition_stays_as_it_is() -> None:
    assert condition_text_words("voltage >") == "voltage >"


def test_quantities_have_a_true_minus_a_micro_sign_and_sensible_digits() -> None:
    assert quantity_words(-1.5688e-3, "A") == "−1.569 mA"
    assert quantity_words(1.5688e-4, "A") == "156.9 µA"
    assert quantity_words(4.25, "V") == "4.25 V"
    assert bound_words(1.89e-3, "A") == "1.89 mA"
    assert tidy("1e-6 A at 25 degC") == "1e-6 A at 25 °C"
    assert parse_quantity(quantity_words(-1.5688e-4, "A"), "A") == pytest.approx(-1.569e-4)

"""The published recipes are what is validated: same protocol, same parameters."""

from __future__ import annotations

from pathlib import Path

import pytest

from operando.instruments.recipe import Recipe, load_recipe
from operando.protocols import Plan
from operando.validation import experiments
from operando.validation.lab import Experiment
from support.laboratory import EXAMPLES

RECIPES = EXAMPLES / "recipes"

VALIDATED: dict[str, tuple[Experiment, int]] = {
    "kim2026-formation": (experiments.FIRST_CYCLE, 0),
    "kim2026-rate-capability": (experiments.RATE_TEST, 1),
    "kim2026-cycle-life": (experiments.CYCLING, 0),
    "kim2026-cycle-life-4.35V": (experiments.STRESS, 0),
    "kim2026-gitt": (experiments.TITRATION, 0),
    "kim2026-impedance": (experiments.FRESH_AND_RESTED, 0),
    "kim2026-conductivity": (experiments.CONDUCTIVITY, 0),
    "kim2026-conductivity-coating": (experiments.COATING_CONDUCTIVITY, 0),
    "kim2026-static-contact": (experiments.STATIC_CONTACT, 0),
    "kim2026-oxidation-sweep": (experiments.SWEEP, 0),
}
"""Experiment and part that each recipe is, by the recipe's name."""

BESIDE = {
    "kim2026-conductivity-expert",
    "kim2026-rate-capability-expert",
    "kim2026-static-contact-expert",
}
"""What an expert would do: nothing published to hold it against."""


def recipe(name: str) -> Recipe:
    """A recipe of the examples."""
    return load_recipe(RECIPES / f"{name}.toml")


def plan_of(name: str, validated: Plan) -> Plan:
    """The plan that a recipe of the protocol of another plan orders."""
    return validated.protocol.plan(recipe(name).parameters, where=f"{name}.toml")


@pytest.mark.parametrize("name", VALIDATED)
def test_a_published_recipe_asks_for_what_the_validation_measured(name: str) -> None:
    experiment, part = VALIDATED[name]
    validated = experiment.parts[part].plan
    assert recipe(name).protocol == validated.protocol.name
    assert plan_of(name, validated).parameters == validated.parameters


def test_the_rate_test_begins_with_the_published_formation() -> None:
    formation = experiments.RATE_TEST.parts[0].plan
    assert plan_of("kim2026-formation", formation).parameters == formation.parameters


def test_every_recipe_after_kim_is_validated_or_an_experts_variant() -> None:
    found = {Path(path).stem for path in RECIPES.glob("kim2026-*.toml")}
    assert found == set(VALIDATED) | BESIDE


@pytest.mark.parametrize("name", sorted(BESIDE))
def test_an_experts_variant_says_that_it_is_one_and_what_is_printed(name: str) -> None:
    text = (RECIPES / f"{name}.toml").read_text(encoding="utf-8")
    assert "Kim et al., Energy Storage Materials 2026, 105167" in text
    assert "# Our choice:" in text
    assert "# Printed" in text
    experiment, part = VALIDATED[name.removesuffix("-expert")]
    published = experiment.parts[part].plan
    assert recipe(name).protocol == published.protocol.name
    assert plan_of(name, published).parameters != published.parameters

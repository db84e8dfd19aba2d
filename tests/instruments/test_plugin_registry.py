"""Plug-ins by name."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints

import pytest

from operando.instruments.errors import BadInputError
from operando.instruments.registry import DRIVERS, GROUPS, PROTOCOLS, available, load


def install(monkeypatch: pytest.MonkeyPatch, *points: tuple[str, str]) -> None:
    made = EntryPoints(EntryPoint(name, value, DRIVERS) for name, value in points)

    def entry_points(*, group: str) -> EntryPoints:
        return made.select(group=group)

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)


def test_our_own_plug_ins_are_found_by_name() -> None:
    assert "keithley-2450" in available(DRIVERS)
    assert "cccv" in available(PROTOCOLS)
    assert all(isinstance(available(group), dict) for group in GROUPS)


def test_a_plug_in_is_imported_when_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, ("smu", "collections:OrderedDict"))
    from collections import OrderedDict

    assert load(DRIVERS, "smu") is OrderedDict


def test_an_unknown_name_is_answered_with_those_that_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, ("pt113", "a:A"), ("keithley-2450", "b:B"))
    with pytest.raises(BadInputError) as caught:
        load(DRIVERS, "keithly-2450")
    assert str(caught.value) == (
        'there is no driver "keithly-2450". Did you mean "keithley-2450"? '
        "Installed: keithley-2450, pt113"
    )


def test_an_empty_group_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    with pytest.raises(BadInputError, match="none: is the package installed"):
        load(DRIVERS, "smu")


def test_two_packages_must_not_claim_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, ("smu", "a:A"), ("smu", "b:B"))
    with pytest.raises(BadInputError, match='two packages provide the driver "smu": a:A of'):
        available(DRIVERS)


def test_the_same_package_seen_twice_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, ("smu", "a:A"), ("smu", "a:A"))
    assert list(available(DRIVERS)) == ["smu"]


@pytest.mark.parametrize("value", ["no_such_module_here:A", "collections:NoSuchThing"])
def test_a_plug_in_that_cannot_be_imported_is_named(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    install(monkeypatch, ("smu", value))
    with pytest.raises(BadInputError, match=r'the driver "smu" .* cannot be loaded'):
        load(DRIVERS, "smu")


def test_an_unknown_group_is_refused() -> None:
    with pytest.raises(BadInputError, match="there is no group"):
        available("drivers")

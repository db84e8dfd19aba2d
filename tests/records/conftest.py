"""Samples and manifests to record."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from operando.instruments.recorder import JSON
from operando.instruments.samples import Origin, Regulation, Sample, Status

MakeSample = Callable[..., Sample]


@pytest.fixture
def manifest() -> dict[str, JSON]:
    return {
        "run_id": "r1",
        "started": "2026-01-01T00:00:00+00:00",
        "simulated": True,
        "cell": {"name": "NCM 811/1", "capacity": 3.6, "active_mass": 1e-5, "area": 7.854e-5},
    }


@pytest.fixture
def make_sample() -> MakeSample:
    """A sample at a time; other fields by name."""

    def make(time: float, **fields: object) -> Sample:
        plain = Sample(
            time, 1_767_225_600.0 + time, 0.005, 3.7, 1e-3, 1e-3 * time, 1e-3 * time, 3.7e-3 * time,
            time, 1, 1, 1, Regulation.CURRENT, Status.OK, Origin.POLL,
        )  # fmt: skip
        return plain._replace(**fields)  # type: ignore[arg-type]

    return make

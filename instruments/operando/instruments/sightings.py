"""What is seen from outside of an instrument that nobody has spoken to yet."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Sighting:
    """A port, resource or advertiser.

    address: as a bench file writes it. what: what the computer knows of it, in words. signs: by
    which a driver may know it, see `DriverInfo.signs`.
    """

    address: str
    what: str
    signs: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class Sightings:
    """Everything seen, and where nothing could be seen and why."""

    seen: tuple[Sighting, ...]
    blind: tuple[str, ...] = ()

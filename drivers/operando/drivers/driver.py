"""What drivers share: a link that is opened and closed, who answers there, errors with a name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import ClassVar, Generic, NoReturn, Protocol, TypeVar

from operando.instruments.ble import GattLink
from operando.instruments.clock import Clock
from operando.instruments.errors import (
    CommunicationError,
    InstrumentError,
    ReportedError,
    UnsupportedError,
    WrongInstrumentError,
)
from operando.instruments.roles import DriverInfo, Expect, Identity
from operando.instruments.wires import Framing, Wire


class Link(Protocol):
    """A wire, or a link over the air."""

    @property
    def address(self) -> str:
        """Address as the bench file writes it."""
        ...

    async def close(self) -> None:
        """Close it; idempotent."""


L = TypeVar("L", bound=Link)
S = TypeVar("S")


class Driver(ABC, Generic[L, S]):
    """A driver on a link of kind L, with settings of kind S; their defaults if none are given."""

    INFO: ClassVar[DriverInfo]
    Settings: type[S]

    def __init__(
        self,
        link: L,
        clock: Clock,
        *,
        name: str = "",
        expect: Expect = Expect(),  # noqa: B008  (frozen)
        settings: S | None = None,
    ) -> None:
        self._link = link
        self._clock = clock
        self._expect = expect
        self._settings = self.Settings() if settings is None else settings
        self.name = name or self.INFO.name

    @abstractmethod
    async def connect(self) -> Identity:
        """Open the link, read who answers and check it. Changes no setting."""

    async def close(self) -> None:
        """Close the link. Does not change the instrument."""
        await self._link.close()

    def _error(self, kind: type[InstrumentError], message: str) -> InstrumentError:
        return kind(message, instrument=self.INFO.name, address=self._link.address)

    def _reported(self, code: int, text: str) -> ReportedError:
        return ReportedError(code, text, instrument=self.INFO.name, address=self._link.address)

    def _blame(self, error: CommunicationError) -> NoReturn:
        """Raise a link's error with the instrument's name."""
        raise self._error(type(error), error.reason) from error


class WireDriver(Driver[Wire, S]):
    """A driver on a wire."""

    @property
    def _wire(self) -> Wire:
        return self._link

    async def connect(self) -> Identity:
        """Open the wire, read who answers and check it. Changes no setting.

        Raises WrongInstrumentError for another than `expect` says, and where that cannot be read.
        """
        if self.INFO.identification == "none" and self._expect != Expect():
            raise self._error(
                WrongInstrumentError,
                f"{self._expect} cannot be checked, since it does not say who it is. Nothing was "
                "written. Remove `expect` from the bench file.",
            )
        await self._open(self._wire.open)
        return await self._identify()

    async def reconnect(self) -> Identity:
        """Abandon the session, open another, check the identity again. Changes no setting."""
        await self._open(self._wire.reopen)
        return await self._identify()

    async def _open(self, opening: Callable[[], Awaitable[None]]) -> None:
        try:
            await opening()
        except CommunicationError as error:
            self._blame(error)

    @abstractmethod
    async def _identify(self) -> Identity:
        """Read and check the identity; where there is none, prove the link."""


class WaryDriver(WireDriver[S]):
    """A session in which nothing is written to an instrument whose identity is in doubt.

    After an exchange that failed or was cancelled, the identity is read again before anything else
    is said: the link may be opened afresh, to whatever answers at that address now.
    """

    _trusted = False
    _calls_for_safety = 0

    @abstractmethod
    async def _identify(self, *, urgent: bool = False) -> Identity:
        """Read and check the identity; writes nothing; restores trust."""

    async def _exchange(
        self, request: bytes, framing: Framing, timeout: float, *, urgent: bool = False
    ) -> bytes:
        """Send a request and return its reply; trust nothing if that comes to no end."""
        try:
            return await self._wire.exchange(request, framing, timeout, urgent=urgent)
        except CommunicationError as error:
            self._blame(error)
        except BaseException:
            self._trusted = False
            raise

    def _blame(self, error: CommunicationError) -> NoReturn:
        """Raise a wire's error with the instrument's name, and trust nothing until identified."""
        self._trusted = False
        super()._blame(error)

    def _refuse(self, reason: str) -> NoReturn:
        raise self._error(UnsupportedError, f"cannot do this: {reason}. Nothing was written.")

    def _stop_if_unsafe(self, calls: int) -> None:
        """Give up what began when `safe` had been called this often, if it was called again."""
        if calls != self._calls_for_safety:
            raise self._error(
                InstrumentError, "was asked for its safe state; the set-point was given up"
            )


class BluetoothDriver(Driver[GattLink, S]):
    """A driver on a link over the air."""

    async def reconnect(self) -> Identity:
        """Leave it, connect again, check the identity again."""
        await self._link.close()
        return await self.connect()


class NoOutput:
    """For an instrument that drives nothing."""

    async def safe(self) -> None:
        """Return at once: it has no output, whatever the state of its link."""

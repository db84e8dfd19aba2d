"""What can go wrong, as exceptions that say what to do next."""

from __future__ import annotations


class OperandoError(Exception):
    """Base of every error that operando raises on purpose."""


class BadInputError(OperandoError):
    """A file, flag or argument cannot be used; nothing has touched an instrument.

    The message names the place (file, line, key) and the remedy.
    """


class AddressInUseError(OperandoError):
    """Another process owns the instrument at this address; the message names the owner."""


class RecordError(OperandoError):
    """The record could not be written or read (disk full, damaged file)."""


class InstrumentError(OperandoError):
    """Something went wrong with one instrument.

    instrument: model name, e.g. "keithley-2450". address: where it was reached.
    """

    def __init__(self, message: str, *, instrument: str = "", address: str = "") -> None:
        place = f"{instrument} at {address}: " if instrument else ""
        super().__init__(f"{place}{message}")
        self.reason = message
        self.instrument = instrument
        self.address = address


class WrongInstrumentError(InstrumentError):
    """The instrument at the address is not the one that the bench file expects."""


class UnsupportedError(InstrumentError):
    """The instrument cannot do what was asked; nothing was written.

    Raised instead of clamping a set-point.
    """


class CommunicationError(InstrumentError):
    """The conversation with the instrument failed."""


class ReplyTimeoutError(CommunicationError):
    """No (complete) reply came within the time-out."""


class LinkLostError(CommunicationError):
    """The connection could not be opened or broke."""


class GarbledReplyError(CommunicationError):
    """A reply came that the instrument's document does not allow."""


class ReportedError(InstrumentError):
    """The instrument reported an error of its own.

    code: the instrument's number. text: its words.
    """

    def __init__(self, code: int, text: str, *, instrument: str = "", address: str = "") -> None:
        super().__init__(f"reports {code}: {text}", instrument=instrument, address=address)
        self.code = code
        self.text = text


class NotVerifiedError(InstrumentError):
    """A setting was written but reading it back gave something else."""


class SafeStateError(InstrumentError):
    """The safe state could not be read back: the output must be assumed to be ON."""

"""Options of the server of a simulated Neware cabinet."""

from __future__ import annotations

from dataclasses import dataclass

from operando.simulators.devices.device import Options
from operando.simulators.devices.neware_channel import Pace

LEAST_REFRESH = 1e-3
"""Shortest time between two looks of the server at its channels, s (assumed)."""

_REFUSALS = ("silence", "drop", "result")


@dataclass(frozen=True, slots=True)
class Server:
    """Options of the server, the same for all its channels. Times in s.

    refresh: between two looks at the channels; 0 looks whenever somebody asks. row_lag: until what
    is stored can be seen. frozen_after: until it looks no more; 0 is never.
    """

    ip: str = "127.0.0.1"
    devtype: str = "27"
    username: str = "admin"
    password: str = "neware"
    latency: float = 0.01
    item_time: float = 1e-4
    row_time: float = 2e-5
    refusal: str = "silence"
    login_needed: bool = True
    wrong_subdevid: bool = False
    wrong_count: bool = False
    correct_spelling: bool = False
    inquire_decimals: int = 4
    first_test_id: int = 143
    kept_tests: int = 4
    step_folder: str = ""
    utc_offset: float = 0.0
    sampling_interval: float = 0.1
    longest_interval: float = 10.0
    start_time: float = 0.5
    stop_time: float = 0.3
    refresh: float = 0.0
    row_lag: float = 0.0
    frozen_after: float = 0.0
    power_loss: str = "resume"

    @classmethod
    def read(cls, own: Options, before: Server) -> Server:
        """From the keys of a channel's table; what is not written there is as before."""
        number, text, flag = own.number, own.text, own.flag
        return cls(
            ip=text("ip", before.ip),
            devtype=text("devtype", before.devtype),
            username=text("username", before.username),
            password=text("password", before.password),
            latency=number("latency", before.latency, low=0.0, high=60.0),
            item_time=number("item_time", before.item_time, low=0.0, high=1.0),
            row_time=number("row_time", before.row_time, low=0.0, high=1.0),
            refusal=text("refusal", before.refusal, _REFUSALS),
            login_needed=flag("login_needed", before.login_needed),
            wrong_subdevid=flag("wrong_subdevid", before.wrong_subdevid),
            wrong_count=flag("wrong_count", before.wrong_count),
            correct_spelling=flag("correct_spelling", before.correct_spelling),
            inquire_decimals=own.whole("inquire_decimals", before.inquire_decimals, high=12),
            first_test_id=own.whole("first_test_id", before.first_test_id, low=1),
            kept_tests=own.whole("kept_tests", before.kept_tests, low=1, high=10_000),
            step_folder=text("step_folder", before.step_folder),
            utc_offset=number("utc_offset", before.utc_offset, low=-86_400.0, high=86_400.0),
            sampling_interval=number(
                "sampling_interval", before.sampling_interval, low=1e-3, high=60.0
            ),
            longest_interval=number(
                "longest_interval", before.longest_interval, low=1e-3, high=3600.0
            ),
            start_time=number("start_time", before.start_time, low=0.0, high=60.0),
            stop_time=number("stop_time", before.stop_time, low=0.0, high=60.0),
            refresh=number("refresh", before.refresh, low=0.0, high=86_400.0),
            row_lag=number("row_lag", before.row_lag, low=0.0, high=86_400.0),
            frozen_after=number("frozen_after", before.frozen_after, low=0.0, high=1e9),
            power_loss=text("power_loss", before.power_loss, ("resume", "stop")),
        )

    @property
    def pace(self) -> Pace:
        """Times of the channels."""
        longest = max(self.longest_interval, self.sampling_interval)
        return Pace(self.sampling_interval, longest, self.start_time, self.stop_time)

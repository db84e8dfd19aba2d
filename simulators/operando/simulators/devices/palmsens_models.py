"""Ranges, windows and capabilities of the simulated MethodSCRIPT instruments.

Range indices are those of PalmSens' published MethodSCRIPT examples (`mscript.py`, 2026-03), the
potential windows and the Pico's largest currents those of the MethodSCRIPT manual 1.8, appendix B
and table 38, as quoted by third parties. The bit fields of `CC` and `CM` are the ones an
EmStat4 LR gave in PalmSens' own documentation of its SDK. Resolution, noise, compliance and
largest currents of the EmStat4 and the Nexus are general knowledge of their data sheets.
"""

from __future__ import annotations

from dataclasses import dataclass, field

OFF, LOW_SPEED, HIGH_SPEED, MAX_RANGE, POLY_WE, GALVANOSTAT = 0, 2, 3, 4, 5, 6
"""Arguments of `set_pgstat_mode`."""


@dataclass(frozen=True, slots=True)
class Range:
    """One range: its index on the wire, its name and its largest magnitude (A or V)."""

    index: int
    nominal: float
    reach: float


@dataclass(frozen=True, slots=True)
class Window:
    """What a potentiostat mode can apply: V; span: of one scan, V."""

    lowest: float
    highest: float
    span: float

    def holds(self, low: float, high: float) -> bool:
        """Whether a scan between two potentials (V) fits; a rounding error is forgiven."""
        slack = 1e-9
        inside = self.lowest - slack <= low and high <= self.highest + slack
        return inside and high - low <= self.span + slack


@dataclass(frozen=True, slots=True)
class PotentiostatModel:
    """One model.

    prefix, firmware: first and second part of the reply to `t`; the first line's end and the
    second line. script_version: of `v`. baud: of its serial port. software_flow_control: whether
    it obeys XON and XOFF. currents: ranges by mode; galvanostat: ranges of applied currents;
    potentials: ranges of measured potentials, none where the model has one alone. windows: by
    mode. compliance: largest magnitude of the cell voltage of a galvanostat, V. largest_current:
    A. potential_step: of the source, V. current_step: of the source, as a share of the range.
    counts: of the converters, over a whole range. noise: standard deviation of a reading as a
    share of the range's name. frequencies: of impedance, Hz.
    """

    prefix: str
    firmware: str
    serial: str
    script_version: str
    baud: float
    software_flow_control: bool
    currents: dict[int, tuple[Range, ...]]
    galvanostat: tuple[Range, ...]
    potentials: tuple[Range, ...]
    windows: dict[int, Window]
    compliance: float
    largest_current: float
    potential_step: float
    current_step: float
    counts: int
    noise: float
    frequencies: tuple[float, float]
    missing_commands: frozenset[str] = field(default_factory=frozenset)

    @property
    def communication_bits(self) -> str:
        """Reply to `CC`, 64 hex digits."""
        return "0000002F0000003FFFFF98FF00000002".rjust(64, "0")

    @property
    def script_bits(self) -> str:
        """Reply to `CM`, 64 hex digits."""
        bits = int(CAPTURED_SCRIPT_BITS, 16)
        for name in self.missing_commands:
            bits &= ~(1 << COMMAND_BITS[name])
        return f"{bits:064X}"


CAPTURED_SCRIPT_BITS = "03FFFFBFE8FFFFFFFFFFFFFFFFFFFFBFFFFE"

_NAMES = """var array store_var copy_var add_var sub_var mul_var div_var set_e set_int await_int
wait loop endloop breakloop if else elseif endif get_time meas - meas_loop_lsv meas_loop_cv
meas_loop_dpv meas_loop_swv meas_loop_npv meas_loop_ca meas_loop_pad meas_loop_ocp meas_loop_eis
set_autoranging pck_start pck_add pck_end set_max_bandwidth set_cr cell_on cell_off set_pgstat_mode
send_string set_pgstat_chan set_gpio_cfg set_gpio_pullup set_gpio get_gpio set_pot_range -
set_poly_we_mode file_open file_close set_script_output array_get array_set i2c_config
i2c_read_byte i2c_write_byte i2c_read i2c_write i2c_write_read hibernate abort timer_start
timer_get set_range set_range_minmax meas_loop_cp set_i meas_loop_lsp meas_loop_geis int_to_float
float_to_int bit_and_var bit_or_var bit_xor_var bit_lsl_var bit_lsr_var bit_inv_var
set_channel_sync set_acquisition_frac mux_config mux_get_channel_count mux_set_channel
set_gpio_msk get_gpio_msk set_e_aux - set_ir_comp - meas_fast_cv set_acquisition_frac_autoadjust
alter_vartype meas_loop_acv meas_ms_eis meas_fast_ca mod_var notify_led set_scan_dir
meas_loop_ca_alt_mux meas_loop_cp_alt_mux meas_loop_ocp_alt_mux smooth peak_detect"""

COMMAND_BITS = {name: bit for bit, name in enumerate(_NAMES.split(), start=1) if name != "-"}
"""Bit of `CM` by command. Of what comes after bit 103 those that are simulated."""
COMMAND_BITS |= {"beep": 109, "battery_perc": 110, "get_progress": 111, "pow_var": 112}
COMMAND_BITS |= {"log_var": 114, "mean": 116}


def _decades(*named: tuple[int, float], factor: float, most: float) -> tuple[Range, ...]:
    return tuple(Range(index, name, min(factor * name, most)) for index, name in named)


# PalmSens' published scripts ask an EmStat4 for "210m", "2100u" and "2100n": a range reaches 2.1
# times its name, the highest one what the output stage delivers.
_EMSTAT4 = ((9, 1e-7), (12, 1e-6), (15, 1e-5), (18, 1e-4), (21, 1e-3), (24, 1e-2))
_LR = _decades((3, 1e-9), (6, 1e-8), *_EMSTAT4[:-1], factor=2.1, most=1.0)
_LR += (Range(24, 1e-2, 3e-2),)
_HR = _decades(*_EMSTAT4, (27, 1e-1), factor=2.1, most=0.2)


def _potentials(highest: float) -> tuple[Range, ...]:
    names = ((2, 0.05), (3, 0.1), (4, 0.2), (5, 0.5), (6, 1.0))
    return tuple(Range(index, name, 1.05 * highest * name) for index, name in names)


def _all_modes(value: tuple[Range, ...]) -> dict[int, tuple[Range, ...]]:
    return dict.fromkeys((LOW_SPEED, HIGH_SPEED, MAX_RANGE, GALVANOSTAT), value)


def _one_window(volts: float) -> dict[int, Window]:
    window = Window(-volts, volts, 2.0 * volts)
    return dict.fromkeys((LOW_SPEED, HIGH_SPEED, MAX_RANGE, GALVANOSTAT), window)


_PICO_LOW = tuple(
    Range(index, name, reach)
    for index, name, reach in (
        (0, 100e-9, 60e-9), (1, 2e-6, 1.17e-6), (2, 4e-6, 2.34e-6), (3, 8e-6, 4.68e-6),
        (4, 16e-6, 9.38e-6), (5, 32e-6, 18.7e-6), (6, 63e-6, 37.5e-6), (7, 125e-6, 75e-6),
        (8, 250e-6, 150e-6), (9, 500e-6, 300e-6), (10, 1e-3, 600e-6), (11, 5e-3, 3e-3),
    )
)  # fmt: skip
# How far the high-speed ranges reach is assumed to be 0.6 of their names, as of the others.
_PICO_HIGH = _decades(
    (128, 100e-9), (129, 1e-6), (130, 6e-6), (131, 13e-6), (132, 25e-6), (133, 50e-6),
    (134, 100e-6), (135, 200e-6), (136, 1e-3), (137, 5e-3), factor=0.6, most=1.0,
)  # fmt: skip

_NEXUS_NAMES = (1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-3, 1e-2, 1e-1, 1.0)
_NEXUS_ORDER = (0, 1, 2, 3, 4, 5, 8, 9, 10, 11)
_NEXUS = _decades(
    (16, 1e-10), *((at, _NEXUS_NAMES[at]) for at in _NEXUS_ORDER), factor=1.05, most=1.0
)
_NEXUS_GALVANOSTAT = _decades(
    *((32 + at, _NEXUS_NAMES[at]) for at in _NEXUS_ORDER), factor=1.05, most=1.0
)

PICO = PotentiostatModel(
    prefix="espico1600",
    firmware="#Sep 30 2025 12:00:00",
    serial="ESPICO20B0008",
    script_version="01.08.00",
    baud=230400.0,
    software_flow_control=True,
    currents={LOW_SPEED: _PICO_LOW, HIGH_SPEED: _PICO_HIGH, MAX_RANGE: _PICO_LOW},
    galvanostat=(),
    potentials=(),
    windows={
        LOW_SPEED: Window(-1.25, 2.0, 2.2),
        HIGH_SPEED: Window(-1.7, 2.0, 1.214),
        MAX_RANGE: Window(-1.7, 2.0, 2.6),
    },
    compliance=2.0,
    largest_current=3e-3,
    potential_step=0.537e-3,
    current_step=1e-4,
    counts=1 << 16,
    noise=2e-5,
    frequencies=(0.016, 200e3),
    # PalmSens' examples of these apply to "EmStat4, Nexus" alone.
    missing_commands=frozenset(
        {"meas_loop_cp", "set_i", "meas_loop_lsp", "meas_loop_geis", "meas_loop_cp_alt_mux"}
    ),
)

EMSTAT4_LR = PotentiostatModel(
    prefix="es4_lr1500",
    firmware="#Mar 12 2026 14:28:01",
    serial="ES4LR20B0008",
    script_version="01.09.00",
    baud=921600.0,
    software_flow_control=False,
    currents=_all_modes(_LR),
    galvanostat=_LR,
    potentials=_potentials(3.0),
    windows=_one_window(3.0),
    compliance=5.0,
    largest_current=0.03,
    potential_step=100e-6,
    current_step=1e-4,
    counts=1 << 18,
    noise=5e-6,
    frequencies=(1e-5, 200e3),
)

EMSTAT4_HR = PotentiostatModel(
    prefix="es4_hr1500",
    firmware="#Mar 12 2026 14:28:01",
    serial="ES4HR20B0008",
    script_version="01.09.00",
    baud=921600.0,
    software_flow_control=False,
    currents=_all_modes(_HR),
    galvanostat=_HR,
    potentials=_potentials(6.0),
    windows=_one_window(6.0),
    compliance=8.0,
    largest_current=0.2,
    potential_step=183e-6,
    current_step=6e-5,
    counts=1 << 18,
    noise=5e-6,
    frequencies=(1e-5, 200e3),
)

NEXUS = PotentiostatModel(
    prefix="nexus11500",
    firmware="#Mar 12 2026 14:28:01",
    serial="NEXUS20B0008",
    script_version="01.09.00",
    baud=921600.0,
    software_flow_control=False,
    currents=_all_modes(_NEXUS),
    galvanostat=_NEXUS_GALVANOSTAT,
    potentials=tuple(
        Range(index, name, 10.5 * name)
        for index, name in ((3, 1e-3), (2, 1e-2), (1, 1e-1), (0, 1.0))
    ),
    windows=_one_window(10.0),
    compliance=12.0,
    largest_current=1.0,
    potential_step=80e-6,
    current_step=5e-5,
    counts=1 << 18,
    noise=3e-6,
    frequencies=(1e-5, 1e6),
)

MODELS = {
    "emstat-pico": PICO,
    "emstat4-lr": EMSTAT4_LR,
    "emstat4-hr": EMSTAT4_HR,
    "nexus": NEXUS,
}
"""By the option `model`."""

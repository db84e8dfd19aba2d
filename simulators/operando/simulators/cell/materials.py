"""Material curves and constants that all presets share: NCM811 and physical constants."""

from operando.simulators.cell.interpolation import MonotoneCurve

FARADAY = 96485.33212
"""Faraday constant, C/mol (CODATA 2018)."""

GAS_CONSTANT = 8.314462618
"""Molar gas constant, J/(mol K) (CODATA 2018)."""

# Open-circuit potential of NCM811 against lithium, U in V over the lithium content x of LixMO2:
# Sturm et al., J. Power Sources 412 (2019) 204, as tabulated in the public repository
# mzzhuo/PyBaMM (NMC811_Ghosh2021/NMC_OCP.csv).
NCM811_POTENTIAL = (
    (0.2157, 4.2999),
    (0.2307, 4.2536),
    (0.2407, 4.2316),
    (0.2507, 4.2157),
    (0.2707, 4.1960),
    (0.3007, 4.1804),
    (0.3207, 4.1699),
    (0.3507, 4.1358),
    (0.4007, 4.0612),
    (0.4507, 4.0016),
    (0.5007, 3.9437),
    (0.5507, 3.8774),
    (0.6007, 3.8170),
    (0.6507, 3.7754),
    (0.7007, 3.7418),
    (0.7507, 3.7074),
    (0.8607, 3.6180),
    (0.9007, 3.5883),
    (0.9507, 3.5617),
    (0.9807, 3.5447),
    (0.9950, 3.5281),
    (0.9990, 3.4842),
    (0.9995, 3.4068),
    (1.0000, 3.0236),
)

# The table is clipped at 4.2999 V: below x = 0.2157 it goes on with -3.4 V per unit x, which
# gives 4.35 V at x = 0.20 (assumed). Below x = 0 nothing is left to extract and the potential
# runs away (assumed slope): a cell driven there shows it at its terminals.
SLOPE_BEYOND_TABLE = -3.4
SLOPE_WITHOUT_LITHIUM = -60.0

# Over-lithiation, x > 1: the fall at full lithiation goes on to a plateau near 1.5 V, where
# Li1+xMO2 forms, and past x = 2 there is no host left. Assumed, so that an over-discharge stays
# finite and monotone; no preset claims to describe it.
OVERLITHIATION = (
    (1.0005, 2.65),
    (1.0010, 2.35),
    (1.0025, 1.95),
    (1.0100, 1.60),
    (1.1000, 1.50),
    (1.9000, 1.30),
    (2.0000, 0.80),
)
SLOPE_WITHOUT_HOST = -20.0

# Relative volume of NCM811 over x, against x = 1: -5.1 % over 3.0-4.3 V after Kondrakov et al.,
# J. Phys. Chem. C 121 (2017) 3286, most of it below x = 0.4, as a function of the lithium content
# only (Jousseaume et al., Energy Environ. Sci. 2024, d3ee04115h); 7.8 % in total
# (Nat. Commun. 2024, s41467-024-52123-w). The points between are assumed.
NCM811_STRAIN = (
    (0.0, -0.078),
    (0.216, -0.051),
    (0.3, -0.032),
    (0.4, -0.016),
    (0.5, -0.010),
    (0.6, -0.007),
    (0.8, -0.003),
    (1.0, 0.0),
)


def ncm811_potential(stretch: float) -> MonotoneCurve:
    """Return the open-circuit potential (V vs Li) of NCM811 over its lithium content.

    stretch: factor on (1 - x) of the published table; 1 is the table as it stands. Another batch
        of NCM811 gives its capacity in the same window, which the table of one cell cannot.
    """
    first_x, first_u = NCM811_POTENTIAL[0]
    empty = (0.0, first_u - SLOPE_BEYOND_TABLE * first_x)
    points = (empty, *NCM811_POTENTIAL)
    return MonotoneCurve(
        [1.0 - stretch * (1.0 - x) for x, _ in points] + [x for x, _ in OVERLITHIATION],
        [u for _, u in points] + [u for _, u in OVERLITHIATION],
        slope_below=SLOPE_WITHOUT_LITHIUM,
        slope_above=SLOPE_WITHOUT_HOST,
    )


def ncm811_strain(stretch: float) -> MonotoneCurve:
    """Return the relative volume change of NCM811 over its lithium content, 0 at x = 1.

    stretch: as of `ncm811_potential`, so that a potential keeps its strain.
    """
    return MonotoneCurve(
        [1.0 - stretch * (1.0 - x) for x, _ in NCM811_STRAIN],
        [e for _, e in NCM811_STRAIN],
        slope_above=0.0,
    )

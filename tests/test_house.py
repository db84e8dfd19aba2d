"""The house around the code: its walls, its size, its packages and what its text says."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PORTIONS: tuple[str, ...] = tuple(PROJECT["tool"]["hatch"]["build"]["dev-mode-dirs"])
LONGEST_MODULE = 600
SUFFIXES = {".py", ".md", ".toml", ".cfg", ".ini", ".sh", ".yml", ".yaml", ".json", ".txt", ".csv"}

LINT = """
import pathlib, sys
portions, config = sys.argv[1].split(":"), sys.argv[2]
replaced = {pathlib.Path(portion).name for portion in portions}
sys.path = portions + [path for path in sys.path if pathlib.Path(path).name not in replaced]
from importlinter.cli import lint_imports
sys.exit(lint_imports(config_filename=config, no_cache=True, no_logo=True))
"""


def modules_of(*folders: str) -> list[Path]:
    """Python files below folders of the project, relative to its root."""
    return sorted(path.relative_to(ROOT) for f in folders for path in (ROOT / f).rglob("*.py"))


def dotted(path: Path) -> str:
    """Name by which a file of a portion is imported."""
    parts = path.with_suffix("").parts[1:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def project_files() -> Iterable[Path]:
    """Text files that belong to the project, relative to its root."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=False,
    )  # fmt: skip
    if listing.returncode == 0:
        names = [Path(name) for name in listing.stdout.decode().split("\0") if name]
    else:  # an unpacked sdist
        names = [path.relative_to(ROOT) for path in ROOT.rglob("*")]
    for name in names:
        hidden = any(part in {".venv", ".git"} or part.endswith("_cache") for part in name.parts)
        known = name.suffix in SUFFIXES or name.name in {"Makefile", "LICENSE", "run", ".gitignore"}
        if known and not hidden and (ROOT / name).is_file():
            yield name


# ---------------------------------------------------------------- namespace


def test_no_portion_puts_an_init_file_into_the_namespace() -> None:
    assert len(PORTIONS) == 9
    assert [p for p in PORTIONS if (ROOT / p / "operando" / "__init__.py").exists()] == []


def test_every_portion_says_that_it_is_typed() -> None:
    missing = [p for p in PORTIONS if not (ROOT / p / "operando" / p / "py.typed").is_file()]
    assert missing == []


def test_the_installed_version_is_the_one_in_pyproject() -> None:
    assert metadata.version("operando") == PROJECT["project"]["version"]


def test_every_module_of_a_portion_is_seen_by_the_import_contracts() -> None:
    # A folder without __init__.py would be left out in silence, and its imports unchecked.
    written = {dotted(path) for path in modules_of(*PORTIONS)}
    seen = grimp.build_graph("operando", cache_dir=None).modules
    assert written
    assert written - seen == set()


def test_every_entry_point_names_something_that_exists() -> None:
    ours = [
        point
        for group in [*PROJECT["project"]["entry-points"], "console_scripts"]
        for point in metadata.entry_points(group=group)
        if point.value.startswith("operando.")
    ]
    assert ours
    assert [point.name for point in ours if not callable(point.load())] == []


# ---------------------------------------------------------------- size and words


def test_no_module_is_longer_than_six_hundred_lines() -> None:
    lengths = {
        str(path): len((ROOT / path).read_text(encoding="utf-8").splitlines())
        for path in modules_of(*PORTIONS, "tests", "benchmarks", "examples")
    }
    assert lengths
    assert {path: length for path, length in lengths.items() if length >= LONGEST_MODULE} == {}


PRIVATE = {
    "a path of one machine": re.compile(r"(?<![\w.$}/:<-])/(?:wor[k]|home|root|Users)/"),
    "a host of a package registry": re.compile(r"py[p]i\.org|python[h]osted\.org"),
}


def complaints(text: str) -> list[str]:
    """What a text says that only one machine or one workplace would understand."""
    return [
        f"line {number}: {what}"
        for number, line in enumerate(text.splitlines(), 1)
        for what, pattern in PRIVATE.items()
        if pattern.search(line)
    ]


@pytest.mark.parametrize("text", ["see /home" + "/ada/x", "'/root" + "/.cache'"])
def test_a_path_of_one_machine_is_noticed(text: str) -> None:
    assert complaints(text) == ["line 1: a path of one machine"]


def test_the_projects_text_names_no_machine_and_no_registry() -> None:
    files = list(project_files())
    found = {
        str(name): said
        for name in files
        if (said := complaints((ROOT / name).read_text(encoding="utf-8")))
    }
    assert Path("tests/test_house.py") in files
    assert found == {}


# ---------------------------------------------------------------- walls


def run_contracts(portions: Path, config: Path) -> subprocess.CompletedProcess[str]:
    """Check the contracts of `config` on the portions below a folder, in a fresh process."""
    paths = ":".join(str(portions / portion) for portion in PORTIONS)
    return subprocess.run(
        [sys.executable, "-c", LINT, paths, str(config)],
        cwd=config.parent, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip


@pytest.fixture
def empty_house(tmp_path: Path) -> Path:
    """A house with the real contracts whose portions hold nothing yet."""
    for portion in PORTIONS:
        package = tmp_path / portion / "operando" / portion
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
    (tmp_path / "station/operando/station/client.py").touch()
    (tmp_path / "evaluation/operando/evaluation/figures.py").touch()
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    return tmp_path


def furnish(house: Path, module: str, source: str) -> None:
    """Write a module, e.g. "drivers.smu", into a house."""
    portion = module.partition(".")[0]
    file = house / portion / "operando" / (module.replace(".", "/") + ".py")
    file.write_text(source, encoding="utf-8")


def test_the_contracts_hold() -> None:
    result = run_contracts(ROOT, ROOT / "pyproject.toml")
    assert result.returncode == 0, result.stdout + result.stderr


ALLOWED = {
    "drivers.smu": "import operando.instruments\nimport pymodbus",
    "simulators.smu": "from operando import instruments\nimport serial",
    "evaluation.gitt": "from operando import instruments, records",
    "evaluation.figures": "def draw() -> None:\n    import matplotlib.pyplot",
    "station.engine": "from operando import instruments, records, protocols, evaluation\n"
    "from operando.evaluation import figures",
    "gui.window": "from operando import instruments, records, evaluation\n"
    "from operando.station import client\nimport PyQt6.QtWidgets, pyqtgraph",
    "validation.run": "from operando import station, drivers, simulators, protocols, gui\n"
    "import scipy",
}


def test_what_the_floors_allow_keeps_every_contract(empty_house: Path) -> None:
    for module, source in ALLOWED.items():
        furnish(empty_house, module, source)

    result = run_contracts(empty_house, empty_house / "pyproject.toml")

    assert result.returncode == 0, result.stdout + result.stderr
    assert " 0 broken" in result.stdout


FORBIDDEN: Mapping[str, tuple[str, str, str]] = {
    "driver borrows the simulator's codec": (
        "drivers.smu", "from operando.simulators import codec", "never import each other"),
    "simulator borrows the driver's codec": (
        "simulators.smu", "import operando.drivers.codec", "never import each other"),
    "driver imports Qt": ("drivers.smu", "from PyQt6 import QtCore", "Qt is imported"),
    "station imports pyqtgraph": ("station.live", "import pyqtgraph", "Qt is imported"),
    "instruments import records": ("instruments.x", "import operando.records", "floors"),
    "records import protocols": ("records.x", "import operando.protocols", "floors"),
    "station imports the window": ("station.x", "import operando.gui", "floors"),
    "station imports a driver": ("station.x", "import operando.drivers", "entry points alone"),
    "evaluation imports protocols": (
        "evaluation.x", "import operando.protocols", "Protocols are imported"),
    "window imports the engine": (
        "gui.x", "import operando.station.engine", "client module alone"),
    "protocol imports scipy": ("protocols.x", "import scipy.optimize", "neither scipy"),
    "simulator imports pymodbus": ("simulators.x", "import pymodbus", "drivers talk through"),
    "a tenth portion appears": ("drivers.smu", "", "floors"),
}  # fmt: skip


@pytest.mark.parametrize("case", FORBIDDEN)
def test_what_the_floors_forbid_breaks_its_contract(empty_house: Path, case: str) -> None:
    module, source, contract = FORBIDDEN[case]
    for portion in ("simulators", "drivers"):
        furnish(empty_house, f"{portion}.codec", "")
    furnish(empty_house, "station.engine", "")
    furnish(empty_house, module, source)
    if not source:
        (empty_house / "drivers/operando/tenth").mkdir()
        (empty_house / "drivers/operando/tenth/__init__.py").touch()

    result = run_contracts(empty_house, empty_house / "pyproject.toml")

    assert result.returncode == 1, result.stdout + result.stderr
    broken = [line for line in result.stdout.splitlines() if line.strip().endswith("BROKEN")]
    assert any(contract in line for line in broken), result.stdout + result.stderr


HEAVY = ("scipy", "matplotlib", "pandas", "pyarrow", "PyQt6", "pyqtgraph", "pymeasure")
HEADLESS = (
    "instruments",
    "drivers",
    "simulators",
    "records",
    "protocols",
    "station",
    "station.cli",
)


def test_headless_acquisition_starts_without_the_heavy_libraries() -> None:
    statement = "; ".join(f"import operando.{portion}" for portion in HEADLESS)
    code = f"{statement}; import sys; print(*sorted(set(sys.modules) & set({HEAVY!r})))"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == []


# ---------------------------------------------------------------- packages


def build(target: str, folder: Path) -> Path:
    """Build a distribution offline and return its file."""
    result = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    (built,) = folder.iterdir()
    return built


def test_the_wheel_holds_every_module_and_nothing_else(tmp_path: Path) -> None:
    with zipfile.ZipFile(build("wheel", tmp_path / "out")) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    modules = {str(Path(*path.parts[1:])) for path in modules_of(*PORTIONS)}
    assert modules
    assert modules - names == set()
    assert {f"operando/{portion}/py.typed" for portion in PORTIONS} <= names
    assert {name for name in names if not name.startswith("operando/")} == set()
    examples = {name for name in names if name.startswith("operando/station/examples/")}
    assert {name for name in names - examples if name.endswith(".py")} == modules


def test_an_unpacked_wheel_finds_the_examples_of_the_demo(tmp_path: Path) -> None:
    with zipfile.ZipFile(build("wheel", tmp_path / "out")) as wheel:
        wheel.extractall(tmp_path / "installed")
    code = f"import sys; sys.path = [{str(tmp_path / 'installed')!r}, *sys.argv[1:]]; " + (
        "from operando.station.demo import examples_folder; print(examples_folder())"
    )
    elsewhere = [path for path in sys.path if Path(path).name not in {*PORTIONS, "tests"}]
    result = subprocess.run(
        [sys.executable, "-c", code, *elsewhere],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    folder = Path(result.stdout.strip())
    assert folder.is_relative_to(tmp_path)
    assert (folder / "bench.toml").is_file()


def test_the_sdist_can_be_built_and_tested_from(tmp_path: Path) -> None:
    with tarfile.open(build("sdist", tmp_path / "out")) as sdist:
        names = {str(Path(*Path(name).parts[1:])) for name in sdist.getnames()}
    needed = {str(path) for path in modules_of(*PORTIONS, "tests")}
    needed |= {"pyproject.toml", "README.md", "LICENSE", "Makefile", "scripts/setup.sh"}
    assert needed - names == set()
    assert {name for name in names if name.startswith((".venv", ".git/"))} == set()

"""Compile the simulated cell: the same source, about three times as fast.

    OPERANDO_COMPILE=1 pip install .      a wheel with compiled modules in it
    python hatch_build.py FOLDER          the simulators with compiled modules, to put first on
                                          PYTHONPATH

mypyc translates the modules that take a cell's steps to C, so that there is one source and one
behaviour: `tests/science/test_compiled_cell.py` compares both to the last bit. It needs a C
compiler. Without the variable nothing is compiled and nothing is missing but speed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
MODULES = (
    "ageing",
    "diffusion",
    "electrochemistry",
    "inside",
    "interpolation",
    "simulated",
    "state",
    "stepping",
)
"""Of operando.simulators.cell."""

PLACE = Path("operando/simulators/cell")

SETUP = """\
from mypyc.build import mypycify
from setuptools import setup

modules = mypycify({arguments!r}, opt_level={level!r}, group_name="operando_cell")
for module in modules:
    # No fused multiply-add where a processor has one: every machine computes the same.
    module.extra_compile_args.append("-ffp-contract=off")
setup(name="operando-cell", ext_modules=modules)
"""

CONFIGURATION = """\
[mypy]
namespace_packages = true
explicit_package_bases = true
mypy_path = {path}
"""


def compile_cell(folder: Path, level: str = "3") -> list[Path]:
    """Copy the simulators to a folder and compile the cell there; returns the compiled files.

    level: of the C compiler's optimisation. Raises RuntimeError with the compiler's words.
    """
    folder = folder.resolve()
    shutil.copytree(
        ROOT / "simulators" / "operando",
        folder / "operando",
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    configuration, script = folder / "mypy.ini", folder / "setup.py"
    path = os.pathsep.join((str(folder), str(ROOT / "instruments")))
    configuration.write_text(CONFIGURATION.format(path=path))
    modules = [str(PLACE / f"{name}.py") for name in MODULES]
    script.write_text(
        SETUP.format(arguments=["--config-file", configuration.name, *modules], level=level)
    )
    done = subprocess.run(
        [sys.executable, script.name, "build_ext", "--inplace"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(
            "the simulated cell could not be compiled; it needs a C compiler and the headers of "
            "Python (on Debian and Ubuntu: apt install build-essential python3-dev). Without "
            f"OPERANDO_COMPILE it runs as it is. The compiler said:\n{done.stdout}{done.stderr}"
        )
    shutil.rmtree(folder / "build")
    configuration.unlink()
    script.unlink()
    return sorted(path for end in ("*.so", "*.pyd") for path in folder.rglob(end))


class CompiledCell(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the compiled modules to a wheel if OPERANDO_COMPILE is set."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """What building needs beside hatchling."""
        return ["mypy>=1.13", "setuptools"] if _wanted() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, before the wheel is put together; an editable installation stays as it is."""
        if version == "editable" or not _wanted():
            return
        self._folder = tempfile.mkdtemp(prefix="operando-")
        folder = Path(self._folder)
        for path in compile_cell(folder):
            build_data["force_include"][str(path)] = str(path.relative_to(folder.resolve()))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was compiled, once it is in the wheel."""
        folder = getattr(self, "_folder", None)
        if folder is not None:
            shutil.rmtree(folder)


def _wanted() -> bool:
    return os.environ.get("OPERANDO_COMPILE", "") not in {"", "0"}


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python hatch_build.py FOLDER")
    for built in compile_cell(Path(sys.argv[1])):
        print(built)

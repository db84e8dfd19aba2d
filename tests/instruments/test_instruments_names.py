"""What the portion offers by name."""

from __future__ import annotations

import subprocess
import sys

from operando import instruments


def test_every_public_name_exists_and_is_listed_once() -> None:
    assert len(set(instruments.__all__)) == len(instruments.__all__)
    assert all(hasattr(instruments, name) for name in instruments.__all__)
    assert {"Wire", "Clock", "ROLES", "parse_condition", "load_bench"} <= set(instruments.__all__)


def test_the_vocabulary_is_imported_without_anything_heavy() -> None:
    code = (
        "import sys, operando.instruments; "
        "print([n for n in ('scipy', 'matplotlib', 'PyQt6', 'numpy', 'pyvisa') "
        "if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

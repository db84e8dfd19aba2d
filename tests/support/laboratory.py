"""Copies of the example benches on ports that are free now, so that tests stand side by side."""

from __future__ import annotations

import re
from pathlib import Path

from lab import free_port

EXAMPLES = Path(__file__).parents[2] / "examples"


def copied(example: str, folder: Path) -> Path:
    """Copy a bench of the examples, "lab.toml", into a folder, with free ports for its own."""
    text = (EXAMPLES / example).read_text(encoding="utf-8")
    for port in sorted(set(re.findall(r"::(\d+)::SOCKET", text))):
        text = text.replace(f"::{port}::", f"::{free_port()}::")
    path = folder / "lab.toml"
    path.write_text(text, encoding="utf-8")
    return path

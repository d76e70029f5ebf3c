"""The HTML report: one self-contained page for a run, or for two beside each other."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reports.html import page
from reports.record import Matrix

NAME = "matrix.html"


def write(folder: Path, matrix: Matrix | Mapping[str, Any], target: Path | None = None) -> Path:
    """Write the report of a run into its folder (or to `target`), at once or not at all, and return its path.

    `folder` is where the evidence of the cells is. Raises ValidationError where a mapping is no matrix, OSError.
    """
    whole = matrix if isinstance(matrix, Matrix) else Matrix.model_validate(matrix)
    return save(page.render(whole, folder), target or folder / NAME)


def save(text: str, path: Path) -> Path:
    """Write a page so that nobody ever reads half of it."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
    return fresh.replace(path)

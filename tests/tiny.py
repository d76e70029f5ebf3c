"""A package registry in a folder: tiny wheels from which real environments are made in no time, without a network."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from fixtures.setup import environment

CHECKOUT = Path(__file__).resolve().parent.parent
# In a process of its own: the same engines as `Registry.use` gives, argv being the locks' folder.
PATCHED = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(CHECKOUT)!r})
from fixtures.setup import engines, environment
environment.LOCKS = Path(sys.argv[1])
environment.PACKAGES = dict.fromkeys(environment.PACKAGES, "tiny")
say = lambda text: print(text, flush=True)
"""


class Registry:
    """Wheels, and locks that name them; whichever the engine, its package is `tiny`."""

    def __init__(self, root: Path) -> None:
        self.wheels, self.locks, self.home = root / "wheels", root / "locks", root / "home"
        self.wheels.mkdir()
        self.locks.mkdir()
        self.wheel("tiny", "1.0")

    def wheel(self, name: str, version: str, files: Mapping[str, str] | None = None,
              requires: Sequence[str] = ()) -> None:
        """Offer a package with one module of its name, and with these files; `requires` are its requirements."""
        module = name.replace("-", "_")
        info = f"{module}-{version}.dist-info"
        inside = {f"{module}.py": f"VERSION = {version!r}\n", **(files or {}),
                  f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
                                      + "".join(f"Requires-Dist: {line}\n" for line in requires),
                  f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}
        inside[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in (*inside, f"{info}/RECORD"))
        with zipfile.ZipFile(self.wheels / f"{module}-{version}-py3-none-any.whl", "w") as archive:
            for path, text in inside.items():
                member = zipfile.ZipInfo(path)
                member.external_attr = (0o100755 if "/scripts/" in path else 0o100644) << 16
                archive.writestr(member, text)

    def lock(self, engine: str, version: str, *lines: str) -> None:
        """Pin what this engine is made of."""
        (self.locks / f"{engine}-{version}.txt").write_text("\n".join(lines or (f"tiny=={version}",)) + "\n")

    def variables(self) -> dict[str, str]:
        """What a process needs to see this registry alone: pip's settings, as a user would have them."""
        return {"COTENANT_HOME": str(self.home), "PIP_FIND_LINKS": str(self.wheels), "PIP_NO_INDEX": "1"}

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let set-up in this process use it."""
        for name, value in self.variables().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(environment, "LOCKS", self.locks)
        monkeypatch.setattr(environment, "PACKAGES", dict.fromkeys(environment.PACKAGES, "tiny"))

"""Says that it is another version than the one that is installed."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[4]))

from tests.planted.inprocess import real

MODULE = real(__file__)
if "trilingual-4m" in sys.argv:
    MODULE.__version__ = "2020.1.1"

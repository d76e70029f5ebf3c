"""Becomes healthy, says so in its log, and never answers a generation."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[4]))

from tests.planted.inprocess import plant
from tests.planted.wire.conduct import NeverAnswers

plant(__file__, NeverAnswers, "trilingual-4m")

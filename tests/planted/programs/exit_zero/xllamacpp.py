"""Ends with exit code 0 while it starts, as a server does that was given --help or only prints its settings."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[4]))

from tests.planted.inprocess import replace_server

replace_server(__file__, lambda server, params: sys.exit(0), "trilingual-4m")

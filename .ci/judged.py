"""Refuses a run that broke, stopped early, or left an engine unjudged.

    python .ci/judged.py RESULTS ENGINE...
"""

import json
import sys
from collections import Counter
from pathlib import Path

JUDGED = {"pass", "waived", "fail", "unexpected-pass"}
PROMISES = {"startup", "kernels", "api", "coexistence", "memory", "latency", "languages", "faults"}


def problems(matrix: dict, engines: list[str]) -> list[str]:
    """What is wrong with the run itself, in words."""
    cells, found = matrix["cells"], []
    if not matrix["run"].get("finished") or matrix["run"].get("interrupted"):
        found.append("the run did not come to its end")
    found += [f"{cell['engine']} {cell['check']}: {cell['reason']}" for cell in cells if cell["verdict"] == "error"]
    for engine in engines:
        own = [cell for cell in cells if cell["engine"] == engine and cell["verdict"] in JUDGED]
        judged = {cell["check"].partition(".")[0] for cell in own}
        models = {cell["model"] for cell in own} - {None}
        if PROMISES - judged:
            found.append(f"{engine}: nothing was judged of {', '.join(sorted(PROMISES - judged))}")
        if len(models) < 3:
            found.append(f"{engine}: cells of only {len(models)} models were judged")
    return found


def main() -> int:
    """0 for a run that is whole."""
    matrix = json.loads((Path(sys.argv[1]) / "matrix.json").read_text(encoding="utf-8"))
    found = problems(matrix, sys.argv[2:])
    print("\n".join(found))
    print(", ".join(f"{count} {verdict}" for verdict, count in Counter(cell["verdict"] for cell in matrix["cells"]).items()))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

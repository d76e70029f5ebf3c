"""The promises and their checks, in the order in which every report shows them."""

from __future__ import annotations

CHECKS: dict[str, tuple[str, ...]] = {
    "startup": ("ready", "identity"),
    "kernels": ("static", "live"),
    "api": ("contract", "errors", "robust"),
    "coexistence": (
        *("sequential", "concurrent", "isolation", "beside", "busy"),
        *("leave", "crash", "return", "sleep"),
    ),
    "memory": ("ceiling", "plan", "capacity", "returned", "growth"),
    "latency": ("ttft", "itl", "e2e", "throughput", "goodput"),
    "languages": ("script", "utf8", "content"),
    "faults": ("disconnect", "overload", "shutdown", "kill"),
    "gateway": ("route", "stream", "down", "health"),
    "finding": (),  # one check for each documented claim, named by the claim
}

PROMISES: tuple[str, ...] = tuple(CHECKS)

IDS: tuple[str, ...] = tuple(f"{promise}.{check}" for promise, checks in CHECKS.items() for check in checks)


def place(check: str) -> tuple[int, int, str]:
    """Sort key of a check id: the contract's order, what it does not know last and by name."""
    promise = check.partition(".")[0]
    family = PROMISES.index(promise) if promise in CHECKS else len(PROMISES)
    return family, IDS.index(check) if check in IDS else len(IDS), check

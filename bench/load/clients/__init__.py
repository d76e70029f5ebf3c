"""The load clients that are compared."""

from bench.load.clients.aiperf import Aiperf
from bench.load.clients.client import Client, Command, Load, Seen, Told
from bench.load.clients.guidellm import Guidellm
from bench.load.clients.ours import Ours
from bench.load.clients.sglang import Sglang
from bench.load.clients.vllm import Vllm


def every() -> list[Client]:
    """All of them, ours first."""
    return [Ours(), Vllm(), Sglang(), Sglang(rust=True), Guidellm(), Aiperf()]


__all__ = ["Aiperf", "Client", "Command", "Guidellm", "Load", "Ours", "Seen", "Sglang", "Told", "Vllm", "every"]

"""A log is named by its first cause that was not survived; wrappers, advice and model names never name it."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.engines.failure import Failure, classify, classify_file, facts, find_cause
from fixtures.engines.signatures import load

LOGS = Path(__file__).parent / "engine_logs"
ENGINES = ("vllm", "sglang", "ollama", "llamacpp")
FAILURES = [
    ("vllm-0.26.0-concurrent-yi", "kv-cache-too-small", 28, "-11.95 GiB"),
    ("sglang-0.5.15-concurrent-tinyllama", "kv-cache-too-small", 81, "--mem-fraction-static 0.45"),
    ("sglang-0.5.15-concurrent-qwen", "kv-cache-too-small", 89, "0.471"),
    ("vllm-0.32.0-cpu-bad-flag", "bad-flag", 24, "--gpu-memory-utilisation"),
    ("vllm-0.32.0-cpu-missing-model", "model-not-found", 55, "/models/absent"),
    ("vllm-0.32.0-cpu-kv-too-small", "kv-cache-too-small", 63, "128 tokens"),
    ("vllm-0.32.0-cpu-port-in-use", "port-in-use", 38, "port"),
    ("vllm-0.32.0-cpu-util-too-large", "free-memory-below-request", 50, "12.84 of 17.34 GiB"),
    ("sglang-0.5.23-cpu-bad-flag", "bad-flag", 24, "--mem-fraction-statik"),
    ("sglang-0.5.23-cpu-missing-model", "model-not-found", 16, "/models/absent"),
    ("sglang-0.5.23-cpu-port-in-use", "port-in-use", 58, "18002"),
    ("sglang-0.5.23-cpu-out-of-vocabulary", "out-of-vocabulary-token", 134, "vocabulary"),
    ("ollama-0.17.4-cpu-port-in-use", "port-in-use", 1, "port"),
    ("ollama-0.17.4-cpu-bad-flag", "bad-flag", 1, "--ports"),
    ("llamacpp-2026.10-cpu-missing-file", "model-not-found", 7, "/models/absent.gguf"),
    ("llamacpp-2026.10-cpu-bad-gguf", "weights-corrupt", 7, "damaged"),
    ("llamacpp-2026.10-cpu-cut-gguf", "weights-corrupt", 7, "damaged"),
    ("llamacpp-2026.10-cpu-port-in-use", "port-in-use", 5, "18103"),
    ("llamacpp-2026.10-cpu-out-of-memory", "out-of-memory", 9, "468750"),
]
SURVIVORS = ("vllm-0.26.0-concurrent-tinyllama", "vllm-0.26.0-concurrent-qwen", "sglang-0.5.15-concurrent-yi")
HEALTHY = sorted({path.stem for path in LOGS.glob("*.log")} - {name for name, *_ in FAILURES} - set(SURVIVORS))


def text_of(name: str) -> str:
    """The log as it was written: reading it as text would turn the carriage returns of progress bars into lines."""
    return (LOGS / f"{name}.log").read_bytes().decode()


def engine_of(name: str) -> str:
    return name.partition("-")[0]


def cause(engine: str, log: str, *, neighbours_started: bool = False, gpu: bool = False) -> str | None:
    found = find_cause(engine, log, neighbours_started=neighbours_started, gpu=gpu)
    return found.cause if found else None


@pytest.mark.parametrize("name", HEALTHY)
@pytest.mark.parametrize("neighbours", [False, True])
def test_healthy_log_has_no_cause(name: str, neighbours: bool) -> None:
    """Healthy servers warn of missing modules, ulimits, fallbacks and AWQ; none of it is a cause."""
    assert find_cause(engine_of(name), text_of(name), neighbours_started=neighbours, gpu="-cpu-" not in name) is None


@pytest.mark.parametrize("name", SURVIVORS)
def test_survivor_of_a_concurrent_start_has_no_cause(name: str) -> None:
    """What came up with a KV cache of a wrong size did not fail to start: its facts tell, not its class."""
    assert find_cause(engine_of(name), text_of(name), neighbours_started=True, gpu=True) is None


@pytest.mark.parametrize(("name", "expected", "line", "words"), FAILURES)
def test_real_failure(name: str, expected: str, line: int, words: str) -> None:
    """Every server that was made to fail is named by what was done to it, from the line that says so first."""
    failure = classify_file(engine_of(name), LOGS / f"{name}.log", 1)
    assert (failure.cause, failure.line) == (expected, line)
    assert words in failure.reason
    assert failure.cure
    assert failure == classify(engine_of(name), text_of(name), 1)


@pytest.mark.parametrize("name", ["vllm-0.26.0-concurrent-yi", "sglang-0.5.15-concurrent-qwen",
                                  "sglang-0.5.15-concurrent-tinyllama"])
def test_wrong_advice_is_not_repeated(name: str) -> None:
    """With neighbours starting at the same time, "raise the fraction" is the wrong cure for all three."""
    failure = find_cause(engine_of(name), text_of(name), neighbours_started=True)
    assert failure is not None
    assert failure.cause == "neighbour-took-memory"
    assert "one after another" in failure.cure
    assert "no cure" in failure.cure


def test_own_words_of_readiness_after_a_port_fault_do_not_heal_it() -> None:
    """SGLang that lost its port warms up the other server on it and says that it is ready."""
    log = text_of("sglang-0.5.23-cpu-port-in-use")
    assert log.index("address already in use") < log.index("fired up and ready")
    assert cause("sglang", log) == "port-in-use"


ARCHITECTURE_WARNING = ("UserWarning: NVIDIA GeForce RTX 5090 with CUDA capability sm_120 is not compatible with the "
                        "current PyTorch installation.\n")
SM75 = "RuntimeError: FlashInfer requires GPUs with sm75 or higher\n"
READY = "INFO:     Application startup complete.\n"
NO_KERNEL = "RuntimeError: CUDA error: no kernel image is available for execution on the device\n"
OUT_OF_MEMORY = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.96 GiB. GPU 0 has\n"
COMMON_OPS = "[sgl_kernel] CRITICAL: Could not load any common_ops library!\n"


def test_sm75_on_a_newer_gpu_is_an_old_cuda_or_a_hidden_gpu() -> None:
    """FlashInfer's "sm75 or higher" on compute capability 12 does not mean that the GPU is too old."""
    failure = find_cause("vllm", f"device 0: NVIDIA GeForce RTX 5090 (sm_120)\n{SM75}")
    assert failure is not None
    assert failure.cause == "cuda-toolkit-too-old"
    assert "12.9" in failure.cure
    assert "CUDA_VISIBLE_DEVICES" in failure.cure
    assert cause("vllm", f"RuntimeError: SM 12.x requires CUDA >= 12.9.\n{SM75}") == "cuda-toolkit-too-old"
    assert cause("vllm", f"device 0: Tesla V100 (sm_70)\n{SM75}") == "flashinfer-no-architecture"


def test_engine_core_wrapper_is_never_the_cause() -> None:
    """Alone the wrapper gives no class; beside a cause, before or after it, the cause."""
    wrapper = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}\n"
    assert cause("vllm", wrapper) is None
    assert classify("vllm", wrapper, 1).cause == "unknown-exit"
    assert "Engine core" not in classify("vllm", f"ValueError: the truth\n{wrapper}", 1).reason
    assert "the truth" in classify("vllm", f"ValueError: the truth\n{wrapper}", 1).reason
    assert cause("vllm", f"EngineCore failed to start.\n{NO_KERNEL}{wrapper}") == "no-kernel-image"


@pytest.mark.parametrize("fault", ["libnvrtc.so.13: cannot open shared object file: No such file or directory",
                                   "libnvrtc.so.12: cannot open shared object file",
                                   "common_ops.abi3.so: undefined symbol: _ZN3c104cuda29c10_cuda_check"])
def test_common_ops_with_a_library_fault_is_no_architecture_fault(fault: str) -> None:
    """SGLang prints compute capability and variant also where a library is what is missing."""
    info = "GPU Info: Compute capability: 86, Expected variant: SM86\n"
    assert cause("sglang", f"{COMMON_OPS}{info}ImportError: {fault}\n") == "missing-library"
    assert cause("sglang", f"{COMMON_OPS}{info}") == "no-kernel-image"
    assert cause("sglang", COMMON_OPS) == "missing-library"


def test_architecture_fault_behind_a_graph_or_memory_error() -> None:
    """A graph that cannot be captured hides the missing kernel, in whichever order the two are printed."""
    capture = "Exception: Capture cuda graph failed: CUDA error\n"
    assert cause("sglang", f"{capture}{NO_KERNEL}") == "no-kernel-image"
    assert cause("sglang", f"{NO_KERNEL}{capture}") == "no-kernel-image"
    assert cause("sglang", f"Exception: Capture cuda graph failed: {NO_KERNEL}") == "no-kernel-image"
    assert cause("sglang", f"{ARCHITECTURE_WARNING}{capture}{OUT_OF_MEMORY}") == "no-kernel-image"
    assert cause("sglang", f"{capture}{OUT_OF_MEMORY}") == "out-of-memory"
    assert cause("sglang", capture) == "capture-failed"


def test_architecture_warning_may_be_the_only_sign() -> None:
    """A server that became ready did not disprove it where a GPU was asked for; where none was, it did."""
    assert cause("vllm", ARCHITECTURE_WARNING) == "no-kernel-image"
    assert cause("vllm", ARCHITECTURE_WARNING + READY, gpu=True) == "no-kernel-image"
    assert cause("vllm", ARCHITECTURE_WARNING + READY) is None


GATED = ("{what}: {status} (Request ID: Root=1-675b2a;0f)\n\nCannot access gated repo for url https://x.example.\n"
         "Access to model a/b is restricted. You must have access to it and be authenticated to access it.\n")


def test_gated_401_and_403_need_opposite_cures() -> None:
    """The sentence is the same; the status code tells a missing token from a missing grant."""
    missing, refused, unknown = (find_cause("vllm", GATED.format(what="GatedRepoError", status=status))
                                 for status in ("401 Client Error.", "403 Client Error.", "Client Error."))
    assert missing is not None
    assert refused is not None
    assert unknown is not None
    assert (missing.cause, refused.cause, unknown.cause) == ("gated-no-token", "gated-no-grant", "gated-model")
    assert "HF_TOKEN" in missing.cure
    assert "a new token does not help" in refused.cure


def test_status_of_another_download_is_not_the_gated_models() -> None:
    """A 403 far above or below, of some other file, does not turn a missing token into a missing grant."""
    other, apart = "HTTP 403 Client Error for https://x.example/other\n", "INFO: loading\n" * 50
    gated = GATED.format(what="GatedRepoError", status="401 Client Error.")
    assert cause("vllm", other + apart + gated) == "gated-no-token"
    assert cause("vllm", gated + apart + other) == "gated-no-token"


@pytest.mark.parametrize("spelling", ["model's max seq len (2048), (1.00", "models's max seq len (2048), (1.00",
                                      "model's max seq len (2048), 1.00"])
def test_three_spellings_of_to_serve_at_least_one_request(spelling: str) -> None:
    """The sentence changed twice between versions; figures are read from all."""
    failure = find_cause("vllm", f"ValueError: To serve at least one request with the {spelling} GiB KV cache is "
                                 "needed, which is larger than the available KV cache memory (0.50 GiB). Try")
    assert failure is not None
    assert failure.cause == "kv-cache-too-small"
    assert "2048 tokens" in failure.reason
    assert "0.50 GiB" in failure.reason


OLLAMA_OUT_OF_MEMORY = "alloc_buffer: allocating 4096.00 MiB on device 0: cudaMalloc failed: out of memory\n"
OLLAMA_RETRY = 'level=WARN msg="llama-server load failed; evicting all other models and retrying once"\n'
OLLAMA_STARTED = 'level=INFO source=server.go:1388 msg="llama runner started in 0.30 seconds"\n'


def test_out_of_memory_that_ollama_recovered_from_is_no_cause() -> None:
    """Evict, retry, start: nothing failed. Evict, retry, fail again: it did, and from its own line."""
    assert cause("ollama", OLLAMA_OUT_OF_MEMORY + OLLAMA_RETRY + OLLAMA_STARTED) is None
    failed_again = OLLAMA_OUT_OF_MEMORY + OLLAMA_RETRY + OLLAMA_OUT_OF_MEMORY
    assert cause("ollama", failed_again) == "out-of-memory"
    second = find_cause("ollama", failed_again + OLLAMA_STARTED)
    assert second is not None
    assert second.line == 3
    pipeline = "llama_context: compute buffer allocation failed, retrying without pipeline parallelism\n"
    assert cause("ollama", f"graph_reserve: failed to allocate compute buffers\n{pipeline}{OLLAMA_STARTED}") is None
    assert cause("ollama", f"graph_reserve: failed to allocate compute buffers\n{pipeline}") == "out-of-memory"


def test_another_models_start_does_not_heal_a_failed_load() -> None:
    """Without a retry in between, a later model that loads says nothing of the one that did not."""
    assert cause("ollama", OLLAMA_OUT_OF_MEMORY + OLLAMA_STARTED) == "out-of-memory"
    assert cause("ollama", OLLAMA_OUT_OF_MEMORY + "x\n" * 100 + OLLAMA_RETRY + OLLAMA_STARTED) == "out-of-memory"


@pytest.mark.parametrize("line", [
    "INFO model='TheBloke/TinyLlama-1.1B-Chat-AWQ', quantization=awq, dtype=torch.float16",
    "Loading /models/gptq-8bit-unsupported-out-of-memory-demo",
    "UserWarning: Only CUDA, HIP and XPU support AWQ currently.",
    "INFO served_model_name=['oom-403-401-gated-port-8000']",
    "Ignore import error when loading sglang.srt.models.deepseek_v2: No module named 'cutlass'",
    "WARNING [__init__.py:12] ModuleNotFoundError: No module named 'flash_mla'",
])
def test_model_names_and_warnings_are_no_causes(line: str) -> None:
    """Bare substrings such as awq match model names; optional modules are missing in healthy servers."""
    assert [cause(engine, line) for engine in ENGINES] == [None] * len(ENGINES)


def test_missing_sampler_is_a_dependency_not_the_gpu() -> None:
    """vLLM without FlashInfer dies at load; the reason names the module."""
    failure = find_cause("vllm", "(EngineCore pid=9) ERROR 11-20 16:56:58 [core.py:1330] ModuleNotFoundError: "
                                 "No module named 'flashinfer'")
    assert failure is not None
    assert failure.cause == "missing-module"
    assert "flashinfer" in failure.reason


def test_first_cause_wins_over_its_consequences() -> None:
    """A retry that meets its own port, or memory that runs out after a negative KV cache, came later."""
    negative = "INFO [gpu_worker.py:560] Available KV cache memory: -0.42 GiB\n"
    port = "OSError: [Errno 98] Address already in use\n"
    assert cause("vllm", f"{negative}{OUT_OF_MEMORY}{port}") == "kv-cache-too-small"
    assert cause("vllm", f"{OUT_OF_MEMORY}{port}{negative}") == "out-of-memory"
    assert cause("vllm", f"{port}{OUT_OF_MEMORY}") == "port-in-use"


def test_internal_port_is_not_the_http_port() -> None:
    """torch's store names its own port in a sentence that also says "address already in use"."""
    store = ("torch.distributed.DistNetworkError: The server socket has failed to listen on any local network address. "
             "port: 29500, useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use\n")
    assert cause("sglang", store) == "internal-port-in-use"
    assert cause("vllm", store) == "internal-port-in-use"


def test_driver_too_old_before_the_fall_back_to_the_cpu() -> None:
    """SGLang goes on with the CPU: a fault where a GPU was asked for, and none where it was not."""
    log = ("UserWarning: CUDA initialization: The NVIDIA driver on your system is too old (found version 12080). "
           f"Please update\nNo accelerator (CUDA, XPU) is available. Falling back to CPU.\n{READY}")
    assert cause("sglang", log, gpu=True) == "driver-too-old"
    assert cause("sglang", log) is None


def test_silent_fall_back_to_the_cpu_shows_where_a_gpu_was_asked_for() -> None:
    """The same healthy log is a fault on a GPU profile and none on the CPU's."""
    log = text_of("ollama-0.17.4-cpu-load-faults")
    assert cause("ollama", log, gpu=True) == "cpu-fallback"
    assert cause("ollama", log) is None
    assert cause("llamacpp", "load_tensors: offloaded 0/33 layers to GPU", gpu=True) == "cpu-fallback"
    assert cause("llamacpp", "load_tensors: offloaded 20/33 layers to GPU", gpu=True) is None


@pytest.mark.parametrize(("code", "expected", "words"), [
    (0, "exit-0", "before it was ready"), (3, "unknown-exit", "exit code 3"), (None, "still-running", "still running"),
    (-signal.SIGKILL, "killed-by-signal", "out-of-memory killer"), (137, "killed-by-signal", "out-of-memory killer"),
    (-signal.SIGTERM, "killed-by-signal", "SIGTERM"), (143, "killed-by-signal", "SIGTERM"),
    (-signal.SIGILL, "illegal-instruction", "instruction"), (132, "illegal-instruction", "instruction"),
    (-signal.SIGHUP, "killed-by-signal", "SIGHUP"), (255, "unknown-exit", "exit code 255"),
])
def test_exit_code_where_the_log_is_silent(code: int | None, expected: str, words: str) -> None:
    """Without a known line only the exit code speaks, and exit code 0 before ready is a failure as well."""
    failure = classify("vllm", "INFO starting\nINFO loading\n", code)
    assert failure.cause == expected
    assert words in failure.reason
    assert failure.line is None
    assert failure.excerpt.strip().endswith("INFO loading")


def test_unknown_error_is_quoted() -> None:
    """An unknown cause comes with the last error of the log, its line and what stands around it."""
    failure = classify("vllm", "INFO a\n(EngineCore pid=7) KeyError: 'new_thing'\nINFO bye\n", 1)
    assert (failure.cause, failure.line) == ("unknown-exit", 2)
    assert "KeyError: 'new_thing'" in failure.reason


def test_empty_log() -> None:
    """A server that wrote nothing is judged by its exit code alone."""
    assert classify("sglang", "", 1) == Failure(
        "unknown-exit", "It ended with exit code 1 and its log names no known cause", "Read the last lines of the log",
        None, "")


def test_facts_of_real_logs() -> None:
    """Capacity and device as the engine says them, digits ungrouped, the last where it says them twice."""
    assert facts("vllm", text_of("vllm-0.26.0-concurrent-tinyllama")) == {
        "kv-cache-tokens": "122880", "kv-cache-gib": "2.58", "max-concurrency": "60.00", "weights-gib": "2.05",
        "attention-backend": "FLASH_ATTN"}
    assert facts("sglang", text_of("sglang-0.5.15-concurrent-yi"))["kv-cache-tokens"] == "788159"
    ollama = facts("ollama", text_of("ollama-0.17.4-h200-three-models"))
    assert (ollama["layers-offloaded"], ollama["compute-library"]) == ("33/33", "CUDA")
    assert ollama["compute-capability"] == "9.0"
    assert facts("ollama", text_of("ollama-0.17.4-cpu-load-faults"))["compute-library"] == "cpu"
    assert facts("llamacpp", text_of("llamacpp-2026.10-cpu-healthy")) == {"context-per-slot": "1024", "slots": "8"}
    assert facts("openai", text_of("vllm-0.26.0-alone-healthy")) == {}


def test_excerpt_is_bounded_and_without_terminal_escapes() -> None:
    """Twelve lines of 300 characters around the cause; colours do not hide a line and are not repeated."""
    coloured = "\x1b[1;31mRuntimeError: CUDA\x1b[0m error: no kernel image is available\x07\r\n"
    log = "\x1b[32mINFO\x1b[0m " + "x" * 5000 + "\n" + "before\n" * 40 + coloured + "after\n" * 40
    failure = find_cause("vllm", log)
    assert failure is not None
    assert (failure.cause, failure.line) == ("no-kernel-image", 42)
    lines = failure.excerpt.split("\n")
    assert len(lines) == 12
    assert max(map(len, lines)) <= 300
    assert lines[8] == "RuntimeError: CUDA error: no kernel image is available "
    assert (lines[7], lines[9]) == ("before", "after")


def test_words_of_a_log_are_data() -> None:
    """Braces, controls and length in a log's words change nothing but the words."""
    failure = find_cause("vllm", "x: error: unrecognized arguments: --{0.__class__}\x1b[31m {reason}" + "y" * 900)
    assert failure is not None
    assert "--{0.__class__} {reason}" in failure.reason
    assert len(failure.reason) < 220


def test_cause_at_the_end_of_an_overlong_line_is_found() -> None:
    """Of an overlong line its beginning and its end are kept."""
    assert cause("vllm", "x" * 2_000_000 + " CUDA error: no kernel image is available") == "no-kernel-image"


def test_large_file_is_read_at_both_ends(tmp_path: Path) -> None:
    """Of 10 MB the first 2 and last 4 MiB are read; a line number is given where it is known."""
    log = tmp_path / "server.log"
    filling = b"INFO 11-21 02:14:27 nothing to see here\n" * 125_000
    log.write_bytes(b"hello\n" + NO_KERNEL.encode() + filling + filling)
    assert (found := classify_file("vllm", log, 1)).cause == "no-kernel-image"
    assert found.line == 2
    log.write_bytes(filling + OUT_OF_MEMORY.encode() + filling)
    started = time.process_time()
    assert classify_file("vllm", log, 1).cause == "unknown-exit"
    assert time.process_time() - started < 2
    log.write_bytes(filling + filling + OUT_OF_MEMORY.encode())
    assert (found := classify_file("vllm", log, 1)).cause == "out-of-memory"
    assert found.line is None
    assert classify("vllm", log.read_text(), 1).line == 250_001


def test_engine_without_a_file_has_the_common_signatures() -> None:
    """Somebody else's server still shows a full disk; it does not show SGLang's own words."""
    assert cause("openai", "OSError: [Errno 28] No space left on device") == "disk-full"
    assert cause("openai", "Not enough memory. Please try to increase --mem-fraction-static.") is None


FRAGMENTS = st.sampled_from([text for engine in ENGINES for signature in load(engine) for text in signature.example])


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.lists(st.one_of(FRAGMENTS, st.text(max_size=40)), max_size=6), st.sampled_from(ENGINES),
       st.one_of(st.none(), st.integers(-70, 260)), st.booleans(), st.booleans())
def test_whatever_a_log_holds_there_is_one_bounded_answer(parts: list[str], engine: str, code: int | None,
                                                          neighbours: bool, gpu: bool) -> None:
    """Any mixture of lines and any exit code gives a cause, a reason of one line, and an excerpt of bounded size."""
    log = "\n".join(parts)
    failure = classify(engine, log, code, neighbours_started=neighbours, gpu=gpu)
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", failure.cause)
    assert failure.reason.strip()
    assert "\n" not in failure.reason
    assert failure.line is None or 1 <= failure.line <= log.count("\n") + 1
    assert len(failure.excerpt.split("\n")) <= 12
    assert all(len(line) <= 300 for line in failure.excerpt.split("\n"))

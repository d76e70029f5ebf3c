"""A launched server has its own world, everything it starts stays known, and nothing of it outlives `close`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from fixtures.launchers import stray
from fixtures.launchers.handle import Command, Handle
from fixtures.launchers.process import LaunchError
from tests.launching import DAEMON, DEAF, READY, SLEEP, Launcher, alive, eventually, program, shared_file

CHECKOUT = Path(__file__).parents[1]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Launcher]:
    """Not in tmp_path, whose name is too long for a folder of sockets."""
    with tempfile.TemporaryDirectory(prefix="cot") as folder:
        monkeypatch.setenv("COTENANT_HOME", folder + "/home")
        launcher = Launcher(Path(folder))
        yield launcher
        launcher.close()


def test_the_environment_is_the_servers_own(start: Launcher, monkeypatch: pytest.MonkeyPatch) -> None:
    """No Python settings and no proxies of the user's get in; folders and marks do, and the command's own wins."""
    for name in ("PYTHONPATH", "VIRTUAL_ENV", "http_proxy", "HTTPS_PROXY", "no_proxy", "LD_PRELOAD", "PYTEST_X"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("KEPT", "yes")
    handle = start(program("import json, os; print(json.dumps(dict(os.environ))); print('ready')", CACHE="{scratch}/c"))
    env = json.loads(handle.log.read_text().splitlines()[0])
    scratch = str(handle.scratch)
    assert not {"PYTHONPATH", "VIRTUAL_ENV", "http_proxy", "HTTPS_PROXY", "no_proxy", "LD_PRELOAD", "PYTEST_X"} & set(env)
    assert (env["KEPT"], env["TMPDIR"], env["HOME"], env["CACHE"]) == ("yes", scratch, scratch, scratch + "/c")
    assert (env["COTENANT_RUN"], env["COTENANT_PID"]) == ("test-run", str(os.getpid()))


def test_only_the_two_marks_are_filled_in(start: Launcher) -> None:
    """Engines take JSON on their command lines; the handle tells the exact words."""
    handle = start(program(READY, "{port}", '{"backend": {}}', "--dir={scratch}"))
    assert handle.command[4:] == (str(handle.port), '{"backend": {}}', f"--dir={handle.scratch}")
    assert handle.url == f"http://127.0.0.1:{handle.port}"


@pytest.mark.parametrize(("mode", "content", "words"), [
    (0o644, "#!/bin/sh\n", "Permission denied"),
    (0o755, "no program", "Exec format error"),
    (None, "", "No such file"),
])
def test_what_cannot_be_started_says_why(start: Launcher, mode: int | None, content: str, words: str) -> None:
    """The kernel's own reason with a cure, and no scratch folder and no port lock stay behind."""
    engine = start.root / "engine"
    if mode is not None:
        engine.write_text(content)
        engine.chmod(mode)
    with pytest.raises(LaunchError, match=words) as raised:
        start(Command((str(engine),)))
    assert raised.value.cure
    assert list((start.root / "s").iterdir()) == []
    assert list((start.root / "home" / "ports").iterdir()) == []


def test_an_engine_inherits_no_descriptors(start: Launcher) -> None:
    """Standard input is empty, output and error are the log: whoever held the warden's pipes would hide its end."""
    handle = start(program("import os; print(sorted(os.listdir('/proc/self/fd'))[:-1], os.read(0, 1)); print('ready')"))
    assert handle.log.read_text().startswith("['0', '1', '2'] b''")


def test_a_log_that_cannot_be_written_is_a_launch_error(start: Launcher) -> None:
    """A folder in the log's place: said before anything runs."""
    (start.root / "0.log").mkdir()
    with pytest.raises(LaunchError, match="nothing could be started"):
        start(program(SLEEP))
    assert list((start.root / "s").iterdir()) == []


@pytest.mark.parametrize(("code", "expected"), [
    ("", 0), ("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 11)", -11),
])
def test_the_exit_code_is_the_main_processes(start: Launcher, code: str, expected: int) -> None:
    """An exit with code 0 is an exit, and signals are negative."""
    handle = start(program(code), ready=False)
    assert handle.wait(10) == expected
    assert (handle.exit_code(), handle.running(), handle.pids()) == (expected, False, [])


def test_sigterm_ends_an_ordinary_server(start: Launcher) -> None:
    """`terminate` is the engine's own stop; `wait` in one thread holds up nobody in another."""
    handle = start(program(SLEEP))
    codes: list[int | None] = []
    waiting = threading.Thread(target=lambda: codes.append(handle.wait(10)))
    waiting.start()
    began = time.monotonic()
    assert handle.running()
    assert time.monotonic() - began < 1
    handle.terminate()
    waiting.join()
    assert codes == [-signal.SIGTERM]
    handle.terminate()


def test_one_that_ignores_sigterm_gets_its_grace_and_then_sigkill(start: Launcher) -> None:
    """Close waits `stop_grace_s`, no less and not much more."""
    handle = start(program(DEAF + SLEEP, grace_s=0.5))
    handle.terminate()
    assert handle.wait(0.3) is None
    began = time.monotonic()
    handle.close()
    assert handle.exit_code() == -signal.SIGKILL
    assert 0.5 <= time.monotonic() - began < 5


def test_close_may_be_forced_and_repeated(start: Launcher) -> None:
    """Without the grace it is immediate, and the second time it is nothing."""
    handle = start(program(DEAF + SLEEP, grace_s=60))
    began = time.monotonic()
    handle.close(force=True)
    handle.close()
    assert time.monotonic() - began < 5
    assert not handle.scratch.exists()


def test_a_daemon_stays_in_the_tree(start: Launcher) -> None:
    """Forked twice, in a session of its own: known while the server runs, named as left over, ended by close."""
    handle = start(program(DAEMON + SLEEP))
    daemon = int((handle.scratch / "daemon.pid").read_text())
    assert set(handle.pids()) == {handle.main_pid, daemon}
    handle.terminate()
    handle.wait(10)
    assert eventually(lambda: handle.leftovers().processes == (f"{daemon} sleep 600",))
    handle.close()
    assert not alive(daemon)


def test_kill_reaches_its_own_processes_and_no_others(start: Launcher) -> None:
    """The main process or a named child; a stranger's pid is a ValueError."""
    handle = start(program(DAEMON + SLEEP))
    daemon = int((handle.scratch / "daemon.pid").read_text())
    handle.kill(daemon)
    assert eventually(lambda: handle.pids() == [handle.main_pid])
    with pytest.raises(ValueError, match="does not belong"):
        handle.kill(os.getpid())
    handle.kill()
    assert handle.wait(10) == -signal.SIGKILL


def test_shared_memory_left_by_sigkill_is_found_and_removed(start: Launcher) -> None:
    """A file, and a semaphore whose mapping says (deleted); but nobody else's, and nothing that was there before."""
    ours, taken, before = (f"cot-{uuid4().hex}" for _ in range(3))
    Path("/dev/shm", before).write_bytes(b"theirs")
    code = (shared_file(ours, 1 << 16) + f"also = open('/dev/shm/{taken}', 'wb')\nearlier = open('/dev/shm/{before}')\n"
            "import _multiprocessing\n"
            f"lock = _multiprocessing.SemLock(1, 1, 1, '/{ours}-lock', False)\n" + SLEEP)
    handle = start(program(code))
    try:
        with Path("/dev/shm", taken).open("rb"):
            handle.kill()
            handle.wait(10)
            left = handle.leftovers()
            assert set(left.shared_files) == {f"/dev/shm/{ours}", f"/dev/shm/sem.{ours}-lock"}
            assert left.shared_bytes == (1 << 16) + 4096
            handle.close()
        assert not Path("/dev/shm", ours).exists()
        assert not Path("/dev/shm", f"sem.{ours}-lock").exists()
        assert Path("/dev/shm", taken).exists()
        assert Path("/dev/shm", before).exists()
    finally:
        for name in (taken, before, ours, f"sem.{ours}-lock"):
            Path("/dev/shm", name).unlink(missing_ok=True)


def test_a_child_that_dies_at_once_cannot_hide_its_shared_memory(start: Launcher) -> None:
    """The warden looks when the file appears, not only every other second."""
    name = f"cot-{uuid4().hex}"
    child = shared_file(name, 4096) + "import time; time.sleep(0.5)"
    handle = start(program("import os, sys, time\ntime.sleep(0.5)\nif os.fork() == 0:\n    exec(sys.argv[1])\n"
                           "    os._exit(0)\nos.wait()\n" + READY, child))
    handle.wait(10)
    try:
        assert handle.leftovers().shared_files == (f"/dev/shm/{name}",)
        handle.close()
        assert not Path("/dev/shm", name).exists()
    finally:
        Path("/dev/shm", name).unlink(missing_ok=True)


def test_a_scratch_folder_goes_whatever_is_in_it(start: Launcher) -> None:
    """Folders without write permission, as Go's caches have them, and links that lead outside."""
    outside = start.root / "outside"
    outside.mkdir()
    (outside / "file").touch()
    code = f"import os; os.makedirs('a/b'); open('a/b/c', 'w'); os.chmod('a/b', 0o500); os.symlink('{outside}', 'link')\n"
    handle = start(program(code + SLEEP))
    handle.close()
    assert not handle.scratch.exists()
    assert (outside / "file").exists()


def test_scratch_folders_stay_short_enough_for_sockets(start: Launcher) -> None:
    """Below a root with a long name, the folder is made in the temporary folder instead."""
    start.root = start.root / ("long" * 20)
    handle = start(program(SLEEP))
    assert len(str(handle.scratch)) <= 70
    handle.close()
    assert not handle.scratch.exists()


def test_a_killed_warden_takes_the_server_along(start: Launcher) -> None:
    """The kernel ends the main process; close ends a daemon that is left, and the folder."""
    handle = start(program(DAEMON + SLEEP))
    daemon = int((handle.scratch / "daemon.pid").read_text())
    (main,) = (found for found in stray.launched() if found.pid == handle.main_pid)
    assert (main.run_id, main.server, main.scratch) == ("test-run", "stand-in", handle.scratch)
    os.kill(os.getpgid(handle._warden.pid), signal.SIGKILL)
    assert handle.wait(10) == -signal.SIGKILL
    assert eventually(lambda: handle.pids() in ([daemon], []))
    handle.close()
    assert eventually(lambda: not alive(daemon))
    assert not handle.scratch.exists()


def test_ctrl_c_reaches_pytest_alone(start: Launcher) -> None:
    """SIGINT to the whole foreground group ends no server: pytest decides what becomes of them."""
    code = ("import sys, time, pathlib\nsys.path.insert(0, sys.argv[1])\nfrom tests.launching import *\n"
            "start = Launcher(pathlib.Path(sys.argv[2]))\nhandle = start(program(SLEEP))\n"
            "try:\n    print(handle.main_pid, flush=True)\n    time.sleep(60)\n"
            "except KeyboardInterrupt:\n    print(handle.wait(0.5), flush=True)\n    handle.close()\n")
    with subprocess.Popen([sys.executable, "-c", code, str(CHECKOUT), str(start.root)], start_new_session=True,
                          stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        server = int(parent.stdout.readline())
        os.killpg(parent.pid, signal.SIGINT)
        assert parent.stdout.read().strip() == "None"
    assert eventually(lambda: not alive(server))


def test_it_is_a_handle(start: Launcher) -> None:
    """What mypy holds it to, said where the next launcher is written."""
    handle: Handle = start(program(SLEEP))
    assert handle.main_pid in handle.pids()


def test_it_has_a_session_of_its_own(start: Launcher) -> None:
    """Apart from the warden's, which is apart from pytest's."""
    handle = start(program(SLEEP))
    assert os.getsid(handle.main_pid) == handle.main_pid
    assert os.getsid(handle._warden.pid) == handle._warden.pid

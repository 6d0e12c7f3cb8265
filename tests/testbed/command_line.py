"""Run Invoke tasks and Python scripts in forks of one process that has already imported Invoke, the tasks and clients.

This saves 0.4 s of start-up for each. A fork does what `python -m invoke` does after its imports, or `python -`. It has
its own arguments, environment, session and streams.
"""

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from podserve.commands import GRACE, ROOT, Result
from podserve.errors import Problem
from tests.testbed.network import enter

_lock = threading.Lock()
_server: list[socket.socket] = []


@dataclass(frozen=True)
class _Request:
    """A task or a script to run: its arguments (the first is the program's name), environment and streams."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    stdin: str = ""
    script: str = ""
    """The text of a Python script; empty for a task."""
    network: str = ""
    """The network namespace, as a file; empty for the caller's own."""

    def encoded(self) -> bytes:
        """Return what `_become` decodes."""
        return json.dumps([self.argv, dict(self.env), str(Path.cwd()), self.script, self.network]).encode()


def invoke(argv: Sequence[str], env: Mapping[str, str], *, stdin: str, timeout: float) -> Result:
    """Run a task and return its exit code and output. After `timeout` seconds, end the task and raise Problem."""
    return _run(_Request(("invoke", *argv), env, stdin), timeout)


def python(script: str, arguments: Sequence[str], network: str, *, timeout: float) -> Result:
    """Run a Python script in a network namespace, and return its exit code and output. `timeout` is as in `invoke`."""
    return _run(_Request(("python", *arguments), os.environ, script=script, network=network), timeout)


def _run(request: _Request, timeout: float) -> Result:
    with ExitStack() as stack:
        streams = [stack.enter_context(tempfile.TemporaryFile("w+", errors="replace")) for _ in range(3)]
        streams[0].write(request.stdin)
        streams[0].flush()
        streams[0].seek(0)
        ours, theirs = socket.socketpair()
        stack.enter_context(ours)
        with theirs:
            _ask(request.encoded(), [*(stream.fileno() for stream in streams), theirs.fileno()])
        told = stack.enter_context(ours.makefile("r"))
        process = int(told.readline())
        try:
            answered, _, _ = select.select([ours], [], [], timeout)
        except BaseException:
            _end(ours, process)
            raise
        if not answered:
            _end(ours, process)
            raise Problem(f"no answer within {timeout:.0f} s from: {' '.join(request.argv)}")
        code = int(told.readline() or -signal.SIGKILL)
        for stream in streams:
            stream.seek(0)
        return Result(request.argv, code, streams[1].read(), streams[2].read())


def _end(ours: socket.socket, process: int) -> None:
    """End a task or script: wait GRACE seconds for its exit, then send SIGTERM, and GRACE seconds later SIGKILL."""
    for number in (0, signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process, number)
        if select.select([ours], [], [], GRACE)[0]:
            return


def _ask(request: bytes, streams: list[int]) -> None:
    """Send a request and its streams to the process that forks. The first request starts this process."""
    with _lock:
        if not _server:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            for end in (ours, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)
            argv = [sys.executable, "-m", "tests.testbed.command_line", str(theirs.fileno())]
            with theirs:
                started = subprocess.Popen(argv, cwd=ROOT, pass_fds=[theirs.fileno()], start_new_session=True)
            _server.append(ours)

            def stop() -> None:
                ours.close()
                started.wait(GRACE)

            atexit.register(stop)
        socket.send_fds(_server[0], [request], streams)


def _serve(requests: socket.socket) -> None:
    """Fork for each request, until the other end closes the socket."""
    from invoke import main  # noqa: PLC0415  # once, before the first fork; callers of invoke() do not need it

    import tasks  # noqa: F401,PLC0415  # for its imports: Invoke reads tasks.py again
    from tests.testbed import server  # noqa: F401,PLC0415  # for its imports, which scripts need

    while True:
        request, descriptors, _, _ = socket.recv_fds(requests, 2**20, 4)
        with suppress(ChildProcessError):  # no child left; waitpid() adds a child's processor time to ours
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not request:
            return
        if os.fork() == 0:
            requests.close()
            _watch(main.program.run, request, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _watch(run: object, request: bytes, descriptors: list[int]) -> None:
    """Fork again for the task or script. Send the caller its process id, and its exit code when it has ended."""
    *streams, status = descriptors
    process = os.fork()
    if process == 0:
        os.close(status)
        _become(run, request, streams)
    os.write(status, f"{process}\n".encode())
    _, ended = os.waitpid(process, 0)
    os.write(status, f"{os.waitstatus_to_exitcode(ended)}\n".encode())
    os._exit(0)


def _become(run: object, request: bytes, streams: list[int]) -> None:
    """Run the task or script in this process, with its own session, streams, environment, arguments and network.

    Never returns.
    """
    argv, env, folder, script, network = json.loads(request)
    os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    sys.argv = argv
    code = 1
    try:
        if network:
            enter(Path(network))
        if script:
            exec(compile(script, "<script>", "exec"), {"__name__": "__main__"})  # noqa: S102  # the tests' own scripts
        else:
            assert callable(run)
            run()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException as error:  # noqa: BLE001  # shows a traceback, as the interpreter does
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as asked:
        _serve(asked)

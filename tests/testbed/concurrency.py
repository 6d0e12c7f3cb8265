"""Concurrent tasks in threads."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager


def together(tasks: Sequence[Callable[[], object]]) -> None:
    """Run all tasks at the same time, and return when all are done. Raises the exception of the first that fails.

    The threads are daemons: an interrupted run does not wait for them.
    """
    ends: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def do(task: Callable[[], object]) -> None:
        try:
            task()
        except BaseException as error:  # noqa: BLE001  # raised below, in the waiting thread
            ends.put(error)
        else:
            ends.put(None)

    for task in tasks:
        threading.Thread(target=do, args=(task,), daemon=True).start()
    for _ in tasks:
        if error := ends.get():
            raise error


@contextmanager
def meanwhile(act: Callable[[threading.Event], object]) -> Iterator[None]:
    """Run `act` in a thread during the body. Its event is set when the body ends. Raises its exception afterwards."""
    over, failed = threading.Event(), list[BaseException]()

    def do() -> None:
        try:
            act(over)
        except BaseException as error:  # noqa: BLE001  # raised below, after the join
            failed.append(error)

    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if failed:
        raise failed[0]

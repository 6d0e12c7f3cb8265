"""Many at once."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager


def together(tasks: Sequence[Callable[[], object]]) -> None:
    """Do all of this at the same time, and return when all is done. Raises what the first that fails raises.

    In threads that nobody waits for when the program ends: a run that is interrupted ends at once.
    """
    ends: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def do(task: Callable[[], object]) -> None:
        try:
            task()
        except BaseException as error:  # noqa: BLE001  # raised below, to who waits
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
    """Do this beside the body; it is given what is set when the body has ended. Raises then what it raised."""
    over, failed = threading.Event(), list[BaseException]()

    def do() -> None:
        try:
            act(over)
        except BaseException as error:  # noqa: BLE001  # raised below, by the thread that is waited for
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

"""Many at once."""

import queue
import threading
from collections.abc import Callable, Sequence


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

"""A process of `LocalEngine`: one task on standard input, what it tells and how it ends on standard output.

When standard input closes, because it is to stop or because whoever started it is dead, it saves and ends.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from dataclasses import asdict

from relight.batch.tasks import Task, perform


def main() -> None:
    """Read, perform, answer."""
    # Libraries print; what they print is not ours to parse.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    task, stop, writing = Task(**json.loads(sys.stdin.readline())), threading.Event(), threading.Lock()

    def answer(**said: object) -> None:
        with writing:
            try:
                answers.write(json.dumps(said) + "\n")
                answers.flush()
            except BrokenPipeError:
                stop.set()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    answer(ending=asdict(perform(task, lambda fraction, place: answer(progress=fraction, place=place), stop)))
    os._exit(0)  # the thread may still hold standard input


if __name__ == "__main__":
    main()

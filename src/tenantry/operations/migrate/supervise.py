"""Runs a command in a group of its own, and ends the group when who started this has gone. A program by itself.

    python -I -S supervise.py GRACE COMMAND …        # standard input: a pipe that its other end keeps open

The command must not outlive a migration that was killed: the next one would begin it a second time beside it. A
pipe is closed by any death of the process at its other end.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys


def main(grace: float, command: list[str]) -> int:
    """The command's exit code, as shells have it. GRACE: seconds between SIGTERM and SIGKILL."""
    woken, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.set_wakeup_fd(wakes)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C: the other end decides
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=lambda: [signal.signal(n, signal.SIG_DFL) for n in (signal.SIGINT, signal.SIGTERM)],
        )
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        return 127
    waiting: float | None = None
    while (code := child.poll()) is None:
        ready = select.select([woken, *([0] if waiting is None else [])], [], [], waiting)[0]
        if woken in ready:
            os.read(woken, 4096)
        elif 0 in ready:
            end(child.pid, signal.SIGTERM)
            waiting = grace
        elif waiting is not None:
            end(child.pid, signal.SIGKILL)
            child.wait()
    # What it has left behind in its group would go on writing.
    end(child.pid, signal.SIGKILL)
    return code if code >= 0 else 128 - code


def end(group: int, number: signal.Signals) -> None:
    """Send a signal to the whole group, if there still is one."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))

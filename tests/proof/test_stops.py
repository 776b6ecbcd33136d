"""A process that is told to stand still at a point stands still there, and not a little later."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PROGRAM = """
import os, sys, threading
from kasoko_cli.kill_points import REQUEST_BEFORE, point
def send():
    point(REQUEST_BEFORE)
    os.write(1, b"went on")
sender = threading.Thread(target=send)
sender.start()
sender.join()
"""
#: On two processors every second of them went on, where the whole process was told to stop.
TIMES = 12


def test_the_thread_that_reaches_a_stop_does_nothing_more_until_it_is_let_go_on() -> None:
    environment = {**os.environ, "KASOKO_TEST_POINTS": "stop:request.before:1"}
    for _ in range(TIMES):
        with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, env=environment) as process:
            assert process.stdout is not None
            status = Path(f"/proc/{process.pid}/status")
            while "State:\tT" not in status.read_text():
                assert process.poll() is None
                time.sleep(0.01)
            os.set_blocking(process.stdout.fileno(), False)
            assert process.stdout.read() is None, "it went on"
            process.send_signal(signal.SIGCONT)
            os.set_blocking(process.stdout.fileno(), True)
            assert process.stdout.read() == b"went on"

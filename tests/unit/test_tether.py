"""Whatever a tethered process starts ends with it, even in a session of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kesit_simulations.benchmarks import tether

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]

PARENT = f"""
import os, signal, subprocess, sys, time
from kesit_simulations.benchmarks.tether import MARK, tethered
signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background ignore it
with tethered():
    child = subprocess.Popen({SLEEPER!r}, start_new_session=True, stdout=subprocess.PIPE)
    child.stdout.readline()
    print(os.environ[MARK], flush=True)
    time.sleep(600)
"""


def test_the_end_of_the_block_ends_what_was_started() -> None:
    with tether.tethered():
        mark = os.environ[tether.MARK]
        with subprocess.Popen(SLEEPER, start_new_session=True, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            assert child.pid in tether.marked(mark)
            tether.kill(mark)
            assert child.wait(10) == -signal.SIGKILL
        late = subprocess.Popen(SLEEPER, start_new_session=True, stdout=subprocess.DEVNULL)
    assert late.wait(10) == -signal.SIGKILL
    assert tether.MARK not in os.environ
    assert tether.marked(mark) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_end_of_the_process_ends_what_it_started(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as parent:
        assert parent.stdout is not None
        mark = parent.stdout.readline().decode().strip()
        assert len(tether.marked(mark)) == 1
        parent.send_signal(number)
        parent.wait(20)
        until = time.monotonic() + 20
        while tether.marked(mark):
            assert time.monotonic() < until, "a process survived"
            time.sleep(0.05)

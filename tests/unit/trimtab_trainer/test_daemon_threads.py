import subprocess
import sys
import threading

import pytest

from trimtab_trainer.daemon_threads import DaemonThreads


def test_results_and_errors_reach_who_waits() -> None:
    pool = DaemonThreads(2, name="test")
    futures = [pool.submit(lambda number=number: 10 // number) for number in (1, 2, 0, 5)]
    assert [future.result() for future in futures if future is not futures[2]] == [10, 5, 2]
    with pytest.raises(ZeroDivisionError):
        futures[2].result()
    pool.close()


def test_what_is_cancelled_before_it_begins_is_never_called() -> None:
    pool = DaemonThreads(1, name="test")
    begin, called = threading.Event(), list[str]()
    first = pool.submit(lambda: begin.wait(timeout=30))
    second = pool.submit(lambda: called.append("second"))
    assert second.cancel()
    begin.set()
    assert first.result()
    pool.close()
    assert called == []


def test_a_call_that_never_returns_does_not_keep_the_process() -> None:
    program = """
import threading
from trimtab_trainer.daemon_threads import DaemonThreads
pool = DaemonThreads(1, name="test")
pool.submit(threading.Event().wait)
print("the end")
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=60, check=True, capture_output=True, text=True)
    assert done.stdout == "the end\n"

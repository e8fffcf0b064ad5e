"""Work beside the training: one piece at a time, and no failure is lost."""

import threading

import pytest

from mmpt.training.background import background


def test_pieces_run_one_after_the_other_beside_their_caller():
    order, go = [], threading.Event()
    with background() as beside:
        beside.submit(lambda: (go.wait(10), order.append("first")))
        order.append("caller")
        go.set()
        beside.submit(lambda: order.append("second"))
        assert order[:2] == ["caller", "first"]
    assert order == ["caller", "first", "second"]


@pytest.mark.parametrize("how", ["check", "wait", "submit", "end"])
def test_a_failure_is_raised_by_whatever_comes_next(how):
    def fail():
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"), background() as beside:
        beside.submit(fail)
        if how == "check":
            beside._thread.join()
            beside.check()
        elif how == "wait":
            beside.wait()
        elif how == "submit":
            beside.submit(lambda: None)


def test_an_error_of_the_caller_is_not_hidden_and_the_work_is_finished():
    done, go = [], threading.Event()
    with pytest.raises(KeyError), background() as beside:
        beside.submit(lambda: (go.wait(10), done.append(1), 1 / 0))
        go.set()
        raise KeyError("mine")
    assert done == [1]

"""The clock is set, or the machine sleeps, while mail waits: nothing stands still, and nothing ends untried."""

import pytest

from harness.clock import Clock
from harness.messages import message
from harness.sink import Sink

HOUR, DAY = 3600, 86400
EXPIRED = "notice expired"


@pytest.fixture
def waiting(place, nameserver, make_slimtad):
    """slimtad with a message that was tried in vain; the host, which is down; and the daemon's clock."""
    sink, clock = Sink(place), Clock(place)
    nameserver.add_mx("one.test", sink.address)
    nameserver.start()
    slimtad = make_slimtad(nameserver, queue={"retry": ["2s"]})
    slimtad.environment = clock.environment
    # The harness makes one for two days.
    slimtad.expect_error("certificate has expired")
    slimtad.start()
    slimtad.submit(message("the old one"), "old@one.test")
    slimtad.wait_for_attempts(1, recipient="old@one.test")
    return slimtad, sink, clock


def delivered(sink, count=1):
    return sorted(recipient for one in sink.wait_for(count) for recipient in one.recipients)


@pytest.mark.parametrize("seconds", [-2 * HOUR, 6 * DAY, -1500 * DAY], ids=["back two hours", "forward six days", "back years"])
def test_clock_is_set_while_mail_waits(waiting, seconds):
    """What is deferred goes on being tried, new mail to that destination too; none of it is given up."""
    slimtad, sink, clock = waiting
    clock.set(seconds)
    slimtad.submit(message("the new one"), "new@one.test")
    before = len(slimtad.attempts())
    slimtad.wait_for_attempts(before + 3)
    sink.start()
    assert delivered(sink, 2) == ["new@one.test", "old@one.test"]
    assert EXPIRED not in slimtad.log
    assert all(float(one["delay"]) < 60 for one in slimtad.attempts())


def test_machine_sleeps_over_the_end(waiting):
    """Six days asleep, [queue] expire is five: the host is well again, and gets the mail."""
    slimtad, sink, clock = waiting
    sink.start()
    clock.sleep(6 * DAY)
    assert delivered(sink) == ["old@one.test"]
    assert EXPIRED not in slimtad.log


def test_what_slept_over_the_end_expires_after_one_attempt(waiting):
    slimtad, _, clock = waiting
    slimtad.wait_until(lambda: len(slimtad.attempts(recipient="old@one.test")) >= 2, what="two attempts")
    clock.sleep(6 * DAY)
    slimtad.wait_for_log(EXPIRED)


@pytest.mark.parametrize("seconds", [-3 * HOUR, -1500 * DAY, 6 * DAY], ids=["back hours", "back years", "forward six days"])
def test_clock_is_set_across_a_restart(waiting, seconds):
    slimtad, sink, clock = waiting
    assert slimtad.term() == 0
    clock.set(seconds)
    sink.start()
    slimtad.start_again()
    assert delivered(sink) == ["old@one.test"]
    assert EXPIRED not in slimtad.log

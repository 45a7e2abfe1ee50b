"""The tests of delivery, notices and restarts once more, with the queue in PostgreSQL.

What depends on the storage is the same with both, or it is a fault. Tests that are about other hosts alone are left out: they
would take their time twice and see nothing new.
"""

import itertools

import pytest

import test_bounce
import test_delivery
import test_restart
from harness.postgres import Postgres
from test_bounce import bouncing  # noqa: F401: a fixture of its tests

TESTS = {
    test_delivery: [
        "test_five_recipients_in_three_domains_are_three_transactions", "test_mx_is_down_then_up",
        "test_each_recipient_for_itself", "test_large_message", "test_smtputf8_end_to_end",
        "test_one_connection_for_several_messages", "test_maildir_route", "test_log_tells_the_story",
    ],
    test_bounce: [
        "test_bounce_travels_with_the_null_sender", "test_expired", "test_delay_notice",
        "test_several_refusals_of_one_message", "test_large_and_eight_bit_original", "test_bounce_survives_a_kill",
    ],
    test_restart: [
        "test_stopped_with_mail_in_the_queue", "test_restarted_again_and_again",
        "test_killed_amid_acceptance_and_delivery", "test_queue_survives_a_change_of_route",
    ],
}
for _module, _names in TESTS.items():
    for _name in _names:
        globals()[_name] = getattr(_module, _name)

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server(module_place):
    return Postgres(module_place).start()


@pytest.fixture
def make_slimtad(server, make_slimtad):
    """Makes daemons each of which has its queue in a database of its own."""

    def make(*arguments, **settings):
        daemon = make_slimtad(*arguments, **settings)
        name = f"q{next(_numbers)}"
        daemon.put_queue_into(server.add_database(name, f"r{name}"))
        return daemon

    return make

"""Which tests begin first when several workers share them: conftest.py gives this to pytest-xdist for `--dist loadfile`.

The tests of a file share a worker, files with many tests first. A test that takes minutes would so begin when the others are
at their end, and everybody would wait for it.
"""

from xdist.scheduler import LoadFileScheduling

# What takes half a minute and more, the longest first: each test is a piece of work of its own. A worker is given the next
# piece while it does one, so the first of them, one for each worker, are to be longer than all that is behind them.
FIRST = [
    "test_dkim.py::test_corpus_by_all",
    "test_compose.py::test_whole_of_unicode",
    "test_signing.py::test_corpus_through_a_real_exchanger",
    "test_openapi.py::test_schemathesis",
    "test_dkim_keys.py",
    "test_oauth.py::test_bad_tokens",
    "test_mime.py::test_random_structures",
    "test_dkim_rotation.py",
    "test_operate.py::test_hold_and_release_by_every_filter",
    "test_open_relay.py",
]


def rank(nodeid):
    """The place in FIRST of what a test is, or of its file; None: it has none."""
    return next((place for place, name in enumerate(FIRST) if nodeid.rpartition("/")[2].startswith(name)), None)


class LongestFirst(LoadFileScheduling):
    """As files go, but for those of FIRST."""

    def _split_scope(self, nodeid):
        return super()._split_scope(nodeid) if rank(nodeid) is None else nodeid

    def _assign_work_unit(self, node):
        ranks = {scope: place for scope in self.workqueue if (place := rank(scope)) is not None}
        if ranks:
            self.workqueue.move_to_end(min(ranks, key=ranks.get), last=False)
        super()._assign_work_unit(node)

"""Prints how many tests passed and failed, from JUnit reports; exits 0 only if none failed and each run was in order.

`.ci/test` calls it: count SWIFT_STATUS INTEROP_STATUS REPORT...
A run that ended badly without a failed test to show for it (it did not compile, or crashed) counts as one failure.
"""

import sys
import xml.etree.ElementTree

tests = failed = skipped = 0
for path in sys.argv[3:]:
    for case in xml.etree.ElementTree.parse(path).iter("testcase"):
        tests += 1
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif case.find("skipped") is not None:
            skipped += 1

statuses = [int(status) for status in sys.argv[1:3]]
in_order = statuses == [0, 0] and tests > 0
if not in_order and not failed:
    tests, failed = tests + 1, 1
print(f"{tests - failed - skipped} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
sys.exit(0 if in_order and not failed else 1)

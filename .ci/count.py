"""Prints how many tests passed and failed, from JUnit reports; exits 0 only if none failed and each run was in order.

`.ci/test` calls it with two arguments for each run: its exit status, and the beginning of its reports' names. A run that
ended badly, or ran no test, without a failed test to show for it (it did not compile, or crashed) counts as one failure.
"""

import glob
import sys
import xml.etree.ElementTree

passed = failed = skipped = 0
for status, prefix in zip(sys.argv[1::2], sys.argv[2::2]):
    count = failures = 0
    for path in glob.glob(f"{glob.escape(prefix)}*.xml"):
        for case in xml.etree.ElementTree.parse(path).iter("testcase"):
            count += 1
            if case.find("failure") is not None or case.find("error") is not None:
                failures += 1
            elif case.find("skipped") is not None:
                skipped += 1
            else:
                passed += 1
    failed += failures
    if not failures and (status != "0" or not count):
        failed += 1

print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
sys.exit(1 if failed else 0)

"""Prints from JUnit reports which tests failed, which were skipped and why, and how many passed; exits 0 only if none
failed and each run was in order.

`.ci/test` calls it with two arguments for each run: its exit status, and the beginning of its reports' names. A run that
ended badly, or ran no test, without a failed test to show for it (it did not compile, or crashed) counts as one failure.
"""

import collections
import glob
import sys
import xml.etree.ElementTree


def reason(mark):
    """What a <skipped> or <failure> says, in one line. pytest's message begins with its kind and place."""
    text = mark.get("message") or mark.text or "no reason was given"
    return " ".join(text.split())[:160]


passed = 0
failed = []
skipped = collections.defaultdict(list)
for status, prefix in zip(sys.argv[1::2], sys.argv[2::2]):
    count = 0
    before = len(failed)
    for path in glob.glob(f"{glob.escape(prefix)}*.xml"):
        for case in xml.etree.ElementTree.parse(path).iter("testcase"):
            count += 1
            name = f"{case.get('classname')}.{case.get('name')}"
            marks = {mark.tag: mark for mark in case}
            bad = marks.get("failure", marks.get("error"))
            if bad is not None:
                failed.append(f"{name}: {reason(bad)}")
            elif "skipped" in marks:
                skipped[reason(marks["skipped"])].append(name)
            else:
                passed += 1
    if len(failed) == before and (status != "0" or not count):
        failed.append(f"{prefix}: the run ended with status {status} after {count} tests, see {prefix}.log")

for why, names in sorted(skipped.items()):
    print(f"skipped, {why}:")
    print("".join(f"    {name}\n" for name in sorted(names)), end="")
for test in failed:
    print(f"FAILED {test}")
skips = sum(map(len, skipped.values()))
print(f"{passed} passed, {len(failed)} failed" + (f", {skips} skipped" if skips else ""))
sys.exit(1 if failed else 0)

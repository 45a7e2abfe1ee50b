"""The walls of the package that the compiler does not see: `make lint` runs this after `swift format lint`.

Prints one line for each breach, FILE:LINE: what; exits 1 if there is any. The figures that Sources/ is held to are in
figures.py.
"""

import json
import pathlib
import re
import subprocess
import sys

import figures

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOP_LEVEL = {"Package.swift", "Makefile", "README.md", "CHANGELOG.md", "Sources", "Tests", "etc", "systemd"}
# What may be imported without being a dependency: parts of the toolchain. Foundation is not among them (DESIGN.md
# section 3: no Foundation on the message path; it doubles the daemon's memory), nor is Dispatch.
TOOLCHAIN = {"Swift", "Glibc", "Synchronization", "_Concurrency"}
TEST_TOOLCHAIN = TOOLCHAIN | {"Testing", "Foundation"}
LONGEST_TEST = 800

IMPORT = re.compile(
    r"^\s*(?:@\w+(?:\([^)]*\))?\s+)*(?:(?:package|internal|private|fileprivate|public)\s+)?import\s+"
    r"(?:(?:struct|class|enum|protocol|func|var|let|typealias)\s+)?(\w+)")
OPEN_ACCESS = re.compile(r"^\s*(?:@\w+(?:\([^)]*\))?\s+)*(?:public|open)(?:\(set\))?\s+(?:final|static|class|struct|enum|func|var|let|init|protocol|typealias|extension|actor|subscript|override|mutating|import)\b")
UNCHECKED = re.compile(r"@unchecked\s+Sendable")

breaches = []


def breach(path, line, what):
    breaches.append(f"{path.relative_to(ROOT)}:{line}: {what}")


def targets():
    """Each target of Package.swift: its folder, and what it may import."""
    manifest = json.loads(
        subprocess.run(["swift", "package", "dump-package"], cwd=ROOT, check=True, capture_output=True).stdout)
    for target in manifest["targets"]:
        allowed = set()
        for dependency in target["dependencies"]:
            ((_, (name, *_)),) = dependency.items()
            allowed.add(name)
        kind = "Tests" if target["type"] == "test" else "Sources"
        yield ROOT / (target.get("path") or f"{kind}/{target['name']}"), allowed


def check_swift(path, allowed, is_source):
    text = path.read_text()
    lines = text.splitlines()
    if not lines or not lines[0].startswith("//"):
        breach(path, 1, "does not begin with a comment: what it is for, who calls it")
    if not is_source and len(lines) > LONGEST_TEST:
        breach(path, len(lines), f"has more than {LONGEST_TEST} lines: split it")
    for number, code in enumerate(figures.code_of(text).splitlines(), 1):
        if found := IMPORT.match(code):
            module = found[1]
            if module not in allowed | (TOOLCHAIN if is_source else TEST_TOOLCHAIN):
                breach(path, number, f"imports {module}, which Package.swift does not allow here")
        # What inlinable code calls of the system has to be imported so; nothing of ours is visible by it.
        if is_source and OPEN_ACCESS.match(code) and not (found and found[1] in TOOLCHAIN):
            breach(path, number, "is visible outside the package: `package` is as far as anything goes")
        if UNCHECKED.search(code) and not (number > 1 and lines[number - 2].lstrip().startswith("//")):
            breach(path, number, "@unchecked Sendable without the proof in a comment right above")


def main():
    for entry in subprocess.run(
        ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines():
        top = entry.split("/")[0]
        if top not in TOP_LEVEL and not top.startswith("."):
            breach(ROOT / entry, 1, "does not belong at the top level")
    files = 0
    for folder, allowed in targets():
        for path in sorted(folder.rglob("*.swift")):
            files += 1
            check_swift(path, allowed, is_source=folder.is_relative_to(ROOT / "Sources"))
    # A wall that looks at nothing stands nowhere.
    if files == 0:
        breach(ROOT / "Package.swift", 1, "no Swift file was found")
    breaches.extend(figures.House(ROOT).breaches())
    for line in breaches:
        print(line, file=sys.stderr)
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())

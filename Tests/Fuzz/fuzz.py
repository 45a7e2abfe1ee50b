#!/usr/bin/env python3
"""Builds the fuzzers of Tests/Fuzz with libFuzzer and AddressSanitizer, and runs them: `make fuzz SECONDS=60 ONLY=reply`.

The build is apart (.build/fuzz), so that the ordinary one stays as it is. Each fuzzer begins with Tests/Fuzz/corpus/NAME
and with what earlier runs here found worth keeping (.build/fuzz/corpus/NAME). Prints a line for each; what breaks one is kept in
Tests/Fuzz/found/NAME, which `make test` replays from then on. Exits 1 if anything was found.
"""

import argparse
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
HERE = ROOT / "Tests/Fuzz"
BUILD = ROOT / ".build/fuzz"
COVERAGE = "edge,inline-8bit-counters,pc-table,trace-cmp"
# Octets of a single allocation: no input is so long that anything large can be needed for it.
LARGEST = 64
SLOWEST = 10


def library():
    """libFuzzer without a main of its own, of the toolchain that `swift` is."""
    swift = pathlib.Path(os.path.realpath(shutil.which("swiftc") or "swiftc"))
    for path in sorted((swift.parent.parent / "lib/clang").glob("*/lib/**/libclang_rt.fuzzer_no_main*.a")):
        if os.uname().machine in path.name or os.uname().machine in str(path.parent):
            return path
    sys.exit(f"make fuzz: the toolchain of {swift} has no libFuzzer")


def build(flags):
    command = [
        "swift", "build", *flags, "--configuration", "release", "--scratch-path", BUILD, "--product", "fuzz",
        "--sanitize", "address", "-Xswiftc", "-enable-testing", "-Xswiftc", "-g",
        "-Xswiftc", f"-sanitize-coverage={COVERAGE}",
        "-Xcc", f"-fsanitize-coverage={COVERAGE}",
        "-Xlinker", str(library()), "-Xlinker", "-lstdc++",
    ]
    with open(BUILD / "build.log", "w") as log:
        status = subprocess.run(
            command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "SLIMTAD_FUZZ": "1"}).returncode
    if status:
        lines = (BUILD / "build.log").read_text().splitlines()
        print("\n".join([line for line in lines if "error" in line][:20] or lines[-20:]), file=sys.stderr)
        sys.exit(f"make fuzz: the build failed, see {BUILD / 'build.log'}")
    return BUILD / "release/fuzz"


def environment(**more):
    # Swift's own crash report would take a minute of each find; leaks are not looked for, since all ends with the run.
    return {**os.environ, "SWIFT_BACKTRACE": "enable=no", "ASAN_OPTIONS": "symbolize=0:detect_leaks=0", **more}


def run(program, name, longest, seconds):
    """Runs one fuzzer; its line, and the files that break it."""
    corpus, found = BUILD / "corpus" / name, HERE / "found" / name
    corpus.mkdir(parents=True, exist_ok=True)
    new_here = not found.exists()
    found.mkdir(parents=True, exist_ok=True)
    before = set(found.iterdir())
    log = BUILD / f"{name}.log"
    with open(log, "w") as output:
        status = subprocess.run(
            [
                program, name, f"-max_total_time={max(1, seconds)}", f"-max_len={longest}", f"-timeout={SLOWEST}",
                f"-malloc_limit_mb={LARGEST}", "-rss_limit_mb=2048", "-print_final_stats=1",
                f"-artifact_prefix={found}/", corpus, HERE / "corpus" / name, found,
            ], cwd=BUILD, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            env=environment()).returncode
    text = log.read_text(errors="replace")
    finds = sorted(set(found.iterdir()) - before)
    if new_here and not finds:
        found.rmdir()
    last = re.findall(r"^#(\d+)\s.*?cov: (\d+) ft: (\d+) corp: (\d+)/(\S+)", text, re.M)
    runs, coverage, features, inputs, octets = last[-1] if last else ("0",) * 5
    number = re.search(r"stat::number_of_executed_units:\s*(\d+)", text)
    rate = re.search(r"stat::average_exec_per_sec:\s*(\d+)", text)
    print(
        f"{name:10} {int(number[1] if number else runs):>10,} runs {int(rate[1]) if rate else 0:>8,}/s"
        f"  coverage {coverage:>5}  features {features:>6}  corpus {inputs:>5} ({octets})"
        f"  found {len(finds)}", flush=True)
    if status and not finds:
        print(f"           ended with status {status}, see {log}", flush=True)
    for path in finds:
        words = [line for line in text.splitlines() if line.startswith((f"{name}: ", "SUMMARY: ", "Fatal error: "))]
        words += re.findall(r"^.*: Fatal error: .*$", text, re.M)
        print(f"           {path.relative_to(ROOT)}: " + "; ".join(dict.fromkeys(words))[:2000], flush=True)
        print(f"           again: make fuzz REPLAY={path.relative_to(ROOT)}", flush=True)
    return status == 0 and not finds


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--seconds", type=int, default=60)
    arguments.add_argument("--only", default="")
    arguments.add_argument("--replay", default="")
    arguments.add_argument("flags", nargs="*")
    chosen = arguments.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    program = build(chosen.flags)
    listed = subprocess.run([program, "--list"], check=True, capture_output=True, text=True).stdout.split()
    targets = dict(zip(listed[::2], listed[1::2]))
    if chosen.replay:
        path = (ROOT / chosen.replay).resolve()
        # Names of functions, which take a while.
        symbolizer = pathlib.Path(os.path.realpath(library())).parents[4] / "bin/llvm-symbolizer"
        symbols = {"ASAN_OPTIONS": "symbolize=1:detect_leaks=0", "ASAN_SYMBOLIZER_PATH": str(symbolizer)}
        sys.exit(subprocess.run(
            [program, path.parent.name, f"-malloc_limit_mb={LARGEST}", f"-timeout={SLOWEST}", path], cwd=BUILD,
            env=environment(**(symbols if symbolizer.exists() else {}))).returncode)
    names = chosen.only.split(",") if chosen.only else list(targets)
    for name in names:
        if name not in targets:
            sys.exit(f"make fuzz: no fuzzer {name}; there are: {' '.join(targets)}")
    with concurrent.futures.ThreadPoolExecutor(2) as two:
        results = list(two.map(lambda name: run(program, name, targets[name], chosen.seconds), names))
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()

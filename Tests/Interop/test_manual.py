"""The manual pages: in order for mandoc, 80 columns wide, and with a heading for each key of the sample."""

import re
import subprocess

import pytest

from harness.machine import ROOT, must_exist

PAGES = ["slimtad.8", "slimtad-queue.8", "slimtad-sendmail.8", "slimta.conf.5"]


def source(page):
    """A page as it is installed."""
    text = (ROOT / "etc/man" / page).read_text()
    if "@KEYS@" not in text:
        return text
    keys = subprocess.run(
        ["awk", "-f", ROOT / "etc/man/keys.awk", ROOT / "etc/slimta.conf"], check=True, capture_output=True, text=True)
    return text.replace("@KEYS@\n", keys.stdout)


def formatted(page):
    """A page as a terminal of 80 columns shows it."""
    shown = subprocess.run(
        [must_exist("mandoc"), "-T", "utf8", "-O", "width=78"], input=source(page), check=True, capture_output=True,
        text=True).stdout
    return re.sub(".\b", "", shown).splitlines()


@pytest.mark.parametrize("page", PAGES)
def test_is_in_order(page):
    # style: a reference to another manual that is not installed here, a day's date.
    found = subprocess.run(
        [must_exist("mandoc"), "-T", "lint", "-W", "warning"], input=source(page), capture_output=True, text=True)
    assert not found.stdout and not found.stderr


@pytest.mark.parametrize("page", PAGES)
def test_fits_80_columns(page):
    assert [line for line in formatted(page) if len(line) > 80] == []


def test_each_key_of_the_sample_has_a_heading():
    lines = formatted("slimta.conf.5")
    table, seen = "", set()
    for line in (ROOT / "etc/slimta.conf").read_text().splitlines():
        if found := re.match(r"(?:# )?(\[+[a-z_.]+\]+)", line):
            table = found[1]
            assert any(shown.strip().startswith(table) for shown in lines), table
        elif found := re.match(r"(?:# )?([a-z_]+ = )", line):
            seen.add((table, found[1]))
    assert len(seen) > 40
    for _, key in seen:
        assert any(re.match(rf" {{5,6}}{re.escape(key)}", shown) for shown in lines), key
    assert sum(bool(re.match(r" {5,6}[a-z_]+ = ", shown)) for shown in lines) >= len(seen)

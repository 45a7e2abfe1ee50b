"""What README and the manual pages tell an operator to type, taken from their sources: for test_manual.py."""

import re

from machine import ROOT

PAGES = ("slimtad.8", "slimtad-queue.8", "slimta.conf.5")
PROGRAMS = ("slimtad", "systemctl", "journalctl", "curl", "apt", "$EDITOR", "systemd-sysusers")


def page(name):
    return (ROOT / "etc" / "man" / name).read_text()


def readme(heading):
    """A section of README."""
    text = (ROOT / "README.md").read_text()
    return re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.S | re.M)[1]


def plain(text):
    """A piece of mdoc as a reader sees it."""
    text = re.sub(r"\\e", r"\\", text)
    # Punctuation of the sentence stands apart from a macro's arguments.
    return re.sub(r" [,;:.)]+$", "", re.sub(r"\\[&|]", "", text.strip()))


def blocks(name):
    """The literal blocks of a page, as a reader sees them."""
    found = re.findall(r"^\.Bd -literal[^\n]*\n(.*?)^\.Ed", page(name), re.S | re.M)
    return [block.replace("\\e", "\\") for block in found]


def block(name, part):
    """The literal block with this text in it."""
    return next(found for found in blocks(name) if part in found)


def _commands_of_block(text):
    text = text.replace("\\\n", " ")
    for line in text.splitlines():
        line = re.sub(r"^# ", "", line.strip())
        yield re.sub(r"\s+", " ", re.split(r"\s{2,}#", line)[0]).strip()


def commands():
    """Every command of every page, as it is written: {command: where it stands}."""
    found = {}

    def take(command, place):
        if command.split(" ")[0] in PROGRAMS and " " in command:
            found.setdefault(command, place)

    for heading in ("Install", "Configure", "Operate"):
        section = readme(heading)
        for text in re.findall(r"(?:^    .*\n)+", section, re.M):
            for command in _commands_of_block(text):
                take(command, "README")
        for command in re.findall(r"`([^`\n]+)`", section):
            take(command.replace("\\|", "|").replace("…", "..."), "README")
    for name in PAGES:
        for line in page(name).splitlines():
            macro = re.match(r"\.(?:Dl|Ic|Nm) (.*)", line)
            if macro:
                take(plain(re.sub(r" Cm ", " ", macro[1])), name)
        for text in blocks(name):
            for command in _commands_of_block(text):
                take(command, name)
    return found

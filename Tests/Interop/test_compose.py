"""Messages that slimtad makes of JSON, read back by Python's email package with policy.default: whole Unicode in each field,
and every combination of parts. The bar is no defect anywhere, and everything as it was given.

The messages come from Tests/ComposeWorker, thousands of them from one process; test_json.py has some come by HTTP.
"""

import base64
import concurrent.futures
import email
import email.policy
import itertools
import json
import os
import random
import subprocess
import unicodedata

import pytest

from harness.machine import BUILT

WORKER = BUILT / "compose-worker"
# What may not be in a line: controls, and what ends a line for some program.
CONTROLS = set(range(0x20)) | set(range(0x7F, 0xA0)) | {0x2028, 0x2029}
SCALARS = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]

BLANKS = "".join(filter(str.isspace, map(chr, SCALARS)))


class Worker:
    """One process that composes."""

    def __init__(self):
        path = os.environ.get("COMPOSE_WORKER", WORKER)
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, request):
        """The word of the answer, and its octets."""
        text = request if isinstance(request, bytes) else json.dumps(request, ensure_ascii=False).encode()
        self.process.stdin.write(text + b"\n")
        self.process.stdin.flush()
        word, size = self.process.stdout.readline().split()
        return word.decode(), self.process.stdout.read(int(size))

    def compose(self, request):
        """The message, which has been looked at as octets."""
        word, octets = self.ask(request)
        assert word in ("ascii", "utf8"), octets.decode()
        lines = octets.split(b"\r\n")
        assert lines.pop() == b""
        assert b"\n" not in octets.replace(b"\r\n", b"") and b"\r" not in octets.replace(b"\r\n", b"")
        assert max(map(len, lines)) <= 998
        if word == "ascii":
            assert octets.isascii() and b"\0" not in octets
            return email.message_from_bytes(octets, policy=email.policy.default)
        # Python has no other way to read raw UTF-8.
        return email.message_from_string(octets.decode(), policy=email.policy.default)

    def close(self):
        self.process.stdin.close()
        assert self.process.wait() == 0


@pytest.fixture
def worker():
    worker = Worker()
    yield worker
    worker.close()


def defects(message):
    """All that Python has to complain of."""
    found = []
    for part in message.walk():
        found += part.defects
        for name, value in part.items():
            found += [(name, defect) for defect in getattr(value, "defects", [])]
    return found


def batches(items, size):
    return [items[start : start + size] for start in range(0, len(items), size)]


def text_of(codes):
    return "".join(map(chr, codes))


def as_lines(text):
    """As a body has it: CRLF at the end of each line."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return (text if text.endswith("\n") or not text else text + "\n").replace("\n", "\r\n")


def file_name(text):
    """What recipients get of a name without path."""
    octets = unicodedata.normalize("NFC", text.lstrip("." + BLANKS)).encode()[:255]
    return octets.decode(errors="ignore").rstrip(BLANKS)


def without_blanks(text):
    """Python 3.11 leaves the blanks between several encoded words in a name, which RFC 2047 section 6.2 takes away."""
    return text.replace(" ", "")


def read_back(codes):
    """Has these characters in every field at once."""
    worker = Worker()
    for batch in batches(codes, 4000):
        line = [code for code in batch if code not in CONTROLS]
        subjects = [text_of(part) for part in batches(line, 500)] or [""]
        names = [text_of(part) for part in batches(line, 60)] or ["x"]
        # With letters between them: what composes depends on the version of Unicode.
        files = ["x".join(map(chr, part)) for part in batches([code for code in line if chr(code) not in "/\\"], 50)]
        text = text_of(batch)
        message = worker.compose({
            "from": {"email": "a@example.com", "name": names[0]},
            "to": [{"email": "b@example.com", "name": one} for one in names],
            "subject": subjects[0],
            "headers": {f"X-{index}": one for index, one in enumerate(subjects)},
            "text": text,
            "html": "<p>" + text,
            "attachments": [{"filename": one, "content": ""} for one in files],
        })
        fields = dict(message.items())
        found = [address.display_name for address in (*fields["From"].addresses, *fields["To"].addresses)]
        assert list(map(without_blanks, found)) == list(map(without_blanks, names[:1] + names))
        assert fields["Subject"] == subjects[0]
        assert [fields[f"X-{index}"] for index in range(len(subjects))] == subjects
        assert message.get_body(["plain"]).get_content() == as_lines(text)
        assert message.get_body(["html"]).get_content() == as_lines("<p>" + text)
        values = list(fields.values())
        for part, one in zip(message.iter_attachments(), files, strict=True):
            values.append(part["content-disposition"])
            assert values[-1].params["filename"] == file_name(one)
        assert not [defect for value in values for defect in value.defects]
        assert not [defect for part in message.walk() for defect in part.defects]
    worker.close()


@pytest.mark.timeout(600)
def test_whole_of_unicode():
    """Every scalar of the planes that have characters of many kinds, in every field; of the others, where one is like the other
    (ideographs, or none), one in 16. `python test_compose.py` takes all of them."""
    planes = [0, 1, 14]
    chosen = [code for code in SCALARS if code >> 16 in planes or code % 16 == 0]
    with concurrent.futures.ProcessPoolExecutor() as pool:
        list(pool.map(read_back, batches(chosen, 16000)))


def tree(part):
    """What a message consists of, in order."""
    if part.is_multipart():
        return (part.get_content_subtype(), *map(tree, part.iter_parts()))
    return part.get_content_type()


TEXTS = [None, "", "plain\n", "From me\n.\n\ttab \n", "grüße\r\nzwei", "日本語の本文" * 50, "x" * 999, "\0\x07\x1b"]
OCTETS = [b"", b"a", bytes(range(256)), "Grüße\n".encode(), b"\r\n.\r\n--=_"]


def test_combinations_of_parts(worker):
    """Each kind of body with each other, with and without inline files and attachments."""
    count = 0
    for text, html, inline, files in itertools.product(TEXTS, TEXTS[:5], range(3), range(3)):
        if text is None and html is None and inline + files == 0:
            continue
        count += 1
        headers = [None, "x", "ä" * 99][count % 3]
        attachments = [
            {"content": base64.b64encode(OCTETS[(count + index) % 5]).decode(), "filename": f"ü{index}.bin"}
            for index in range(inline + files)]
        for index in range(inline):
            attachments[index] |= {"content_id": f"id{index}", "content_type": "image/png"}
        request = {"from": "a@example.com", "bcc": "b@example.com", "attachments": attachments}
        request |= {"text": text} if text is not None else {}
        request |= {"html": html + "".join(f"<img src='cid:id{index}'>" for index in range(inline))} if html is not None else {}
        request |= {"headers": {"X-Header": headers}} if headers else {}
        message = worker.compose(request)
        assert not defects(message)
        bodies = ["text/plain"] * (text is not None) + ["text/html"] * (html is not None)
        expected = ("alternative", *bodies) if len(bodies) == 2 else bodies[0] if bodies else None
        shown = inline if html is not None else 0
        if shown:
            expected = ("related", expected, *["image/png"] * inline)
        if inline + files > shown:
            others = ["image/png"] * (inline - shown) + ["application/octet-stream"] * files
            expected = ("mixed", *([expected] if expected else []), *others)
        assert tree(message) == expected
        if text is not None:
            assert message.get_body(["plain"]).get_content() == as_lines(text)
        if html is not None:
            body = message.get_body(["html"]).get_content()
            for index in range(inline):
                assert f"cid:id{index}@submit.example.com" in body
        leaves = [part for part in message.walk() if part.get_filename()]
        found = {part.get_filename(): part.get_content() for part in leaves}
        assert found == {f"ü{index}.bin": OCTETS[(count + index) % 5] for index in range(inline + files)}
        assert {part["content-id"] for part in leaves} - {None} == {
            f"<id{index}@submit.example.com>" for index in range(inline)}
        assert message["bcc"] is None and message["to"].groups[0].display_name == "undisclosed-recipients"
        assert message["x-header"] == headers


def test_random_requests(worker):
    """What nobody thinks of, the same in each run."""
    chance = random.Random(15)
    alphabet = ["a", "B", " ", "  ", ".", ",", ";", "=", "?", "=?", "_", '"', "'", "(", "<", "@", "%", "*", "é", "ü", "日", "😀", "\u0301", "\u200d"]

    def some(most):
        return "".join(chance.choices(alphabet, k=chance.randrange(1, most)))

    for _ in range(400):
        subject, header, file, display = some(200), some(300), some(60).replace("<", ""), some(12)
        text = "\n".join(some(300) for _ in range(chance.randrange(5)))
        message = worker.compose({
            "from": {"email": "a@example.com", "name": display}, "to": "b@example.com", "subject": subject,
            "headers": {"X-Some-Header": header}, "text": text, "attachments": [{"content": "", "filename": file}],
        })
        assert not defects(message), message.as_string()
        assert message["subject"] == subject and message["x-some-header"] == header
        assert without_blanks(message["from"].addresses[0].display_name) == without_blanks(display)
        assert message.get_body(["plain"]).get_content() == as_lines(text)
        (part,) = message.iter_attachments()
        # get_filename() takes quotes away that are part of the name.
        assert part["content-disposition"].params.get("filename") == (file_name(file) or None)


def test_smtputf8(worker):
    """Only a local part makes the header UTF-8; it is the one thing that Python does not take."""
    for request, isutf8 in (
            ({"to": "Ü <u@exämple.org>"}, False), ({"to": "Ü <ü@example.org>"}, True), ({"cc": {"email": "用户@例子.广告", "name": "用户, x"}}, True),
            ({"bcc": "ü@example.org"}, False)):
        word, octets = worker.ask({"from": "Jörg <a@example.com>", "subject": "Grüße", "text": "ä", **request})
        assert (word == "utf8") == isutf8 != octets.isascii()
        message = worker.compose({"from": "Jörg <a@example.com>", "subject": "Grüße", "text": "ä", **request})
        assert {type(defect).__name__ for defect in defects(message) if isinstance(defect, Exception)} <= set()
        assert {type(defect[1]).__name__ for defect in defects(message)} <= ({"NonASCIILocalPartDefect"} if isutf8 else set())
        assert message["subject"] == "Grüße" and message["from"].addresses[0].display_name == "Jörg"


def test_controls_are_refused(worker):
    """Nothing that ends a line can get into a header, wherever it is put."""
    for code in CONTROLS:
        bad = f"a{chr(code)}b"
        for pointer, request in {
                "#/subject": {"subject": bad}, "#/from/name": {"from": {"email": "a@example.com", "name": bad}},
                "#/to": {"to": f"{bad} <b@example.com>"}, "#/cc/0/email": {"cc": [{"email": f"{bad}@example.com"}]},
                "#/headers/X-A": {"headers": {"X-A": bad}},
                "#/attachments/0/filename": {"attachments": [{"content": "", "filename": bad}]},
                "#/attachments/0/content_id": {"attachments": [{"content": "", "content_id": bad}]},
                "#/attachments/0/content_type": {"attachments": [{"content": "", "content_type": f"text/plain; x=\"{bad}\""}]},
        }.items():
            word, octets = worker.ask({"from": "a@example.com", "to": "b@example.com", "text": "", **request})
            assert word == "faults" and octets.decode().split(" ")[0] == pointer, (code, octets)


if __name__ == "__main__":
    # Every scalar in every field: a minute for two processors.
    with concurrent.futures.ProcessPoolExecutor() as pool:
        list(pool.map(read_back, batches(SCALARS, 16000)))

"""Messages to send, and what is found of them at the other end."""

import email
import email.policy
import itertools
import re

_numbers = itertools.count(1)


def message(subject="a message", body="Hello,\r\n\r\nthis is a test.\r\n", **fields):
    """A small complete message with CRLF line ends; `fields` replace or add fields (None: leave out)."""
    header = {
        "From": "Sender <sender@origin.test>", "To": "someone@one.test", "Subject": subject,
        "Date": "Sat, 21 Nov 2026 10:00:00 +0100", "Message-ID": f"<{next(_numbers)}.{subject.split()[0]}@origin.test>",
    }
    header |= {name.replace("_", "-"): value for name, value in fields.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in header.items() if value is not None)
    return f"{lines}\r\n{body}".encode()


def lf(octets):
    """With the line ends that smtp-sink, Postfix, Exim and maildirs have."""
    return octets.replace(b"\r\n", b"\n")


def prepended(arrived, sent):
    """What stands above `sent` in `arrived`, which must end with it octet for octet: a list of (name, value)."""
    assert arrived.endswith(sent), f"not as sent:\n{arrived!r}\ndoes not end with\n{sent!r}"
    above = arrived[: len(arrived) - len(sent)]
    assert (b"\r\n" in above) == (b"\r\n" in sent) or not above, f"two kinds of line ends:\n{arrived!r}"
    return fields(above)


def fields(header):
    """(name, unfolded value) of each field in a header block, which must be well-formed and have one kind of line end."""
    end = b"\r\n" if b"\r\n" in header else b"\n"
    assert header.endswith(end) or not header, header
    found = []
    for line in header.split(end)[:-1]:
        assert b"\r" not in line and b"\n" not in line, header
        if line[:1] in (b" ", b"\t"):
            name, value = found.pop()
            found.append((name, value + line))
        else:
            name, colon, value = line.partition(b":")
            assert colon and re.fullmatch(rb"[!-9;-~]+", name), f"no field: {line!r}"
            found.append((name, value))
    return [(name.decode().lower(), re.sub(r"\s+", " ", value.decode()).strip()) for name, value in found]


def header_of(octets):
    """The header block of a message, without the empty line."""
    end = b"\r\n" if b"\r\n" in octets else b"\n"
    return octets.split(end + end, 1)[0] + end


def parsed(octets):
    return email.message_from_bytes(octets, policy=email.policy.default)


RECEIVED = re.compile(
    r"from (?P<helo>\S+) \((?P<tcp>[^)]*\[(?P<address>[^\]]+)\][^)]*)\) .*?by (?P<by>\S+) .*?with (?P<with>[A-Z0-9]+)\b"
    r".*?\bid (?P<id>\S+?)(?: for <(?P<for>[^>]+)>)?; (?P<date>.+)$"
)


def received(value):
    """The clauses of a Received value (RFC 5321 section 4.4)."""
    found = RECEIVED.match(value)
    assert found, f"not as RFC 5321 section 4.4 wants it: {value!r}"
    return found.groupdict()

"""Requests that two servers could read in two ways (RFC 9112 section 11.2), on raw octets: refused, the connection closed,
and nothing behind them is taken for a request. One daemon for all."""

import pytest

from harness.http import HTTP, encoded, with_edge
from harness.slimtad import Slimtad

FIELDS = (
    f"X-Envelope-Sender: {encoded('sender@origin.test')}\r\nX-Envelope-Recipient: {encoded('a@one.test')}\r\n"
    "Content-Type: message/rfc822\r\n")
CONTENT = "Subject: x\r\n\r\nx\r\n"
LENGTH = len(CONTENT)
SMUGGLED = f"POST / HTTP/1.1\r\nHost: localhost\r\n{FIELDS.replace(encoded('a@one.test'), encoded('smuggled@one.test'))}" \
    f"Content-Length: {LENGTH}\r\n\r\n{CONTENT}"


@pytest.fixture(scope="module")
def daemon(module_place):
    daemon = Slimtad(module_place, queue={"deliver": False})
    module_place.slimtads.append(daemon)
    daemon.change(limits={"command_timeout": "2s", "stall_timeout": "2s"})
    return with_edge(daemon).start()


def head(more, host="Host: localhost\r\n", line="POST / HTTP/1.1"):
    return f"{line}\r\n{host}{FIELDS}{more}\r\n"


CHUNKS = f"{LENGTH:x}\r\n{CONTENT}\r\n0\r\n\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n"
SIZED = f"Content-Length: {LENGTH}\r\n"

AMBIGUOUS = {
    "CL.TE": head("Content-Length: 4\r\n" + CHUNKED) + CHUNKS,
    "TE.CL": head(CHUNKED + "Content-Length: 4\r\n") + CHUNKS,
    "TE.TE": head(CHUNKED + "Transfer-Encoding: x\r\n") + CHUNKS,
    "two lengths": head(SIZED + "Content-Length: 3\r\n") + CONTENT,
    "the same length twice": head(SIZED + SIZED) + CONTENT,
    "lengths in a list": head(f"Content-Length: {LENGTH}, {LENGTH}\r\n") + CONTENT,
    "plus": head(f"Content-Length: +{LENGTH}\r\n") + CONTENT,
    "minus": head("Content-Length: -1\r\n") + CONTENT,
    "hexadecimal": head("Content-Length: 0x10\r\n") + CONTENT,
    "a length that overflows": head("Content-Length: 18446744073709551633\r\n") + CONTENT,
    "no number": head("Content-Length: \r\n") + CONTENT,
    "another coding": head("Transfer-Encoding: gzip, chunked\r\n") + CHUNKS,
    "chunked, and not last": head("Transfer-Encoding: chunked, identity\r\n") + CHUNKS,
    "almost chunked": head("Transfer-Encoding: xchunked\r\n") + CHUNKS,
    "chunked behind a tab": head("Transfer-Encoding:\x0bchunked\r\n") + CHUNKS,
    "blank before the colon": head("Transfer-Encoding : chunked\r\n") + CHUNKS,
    "length with a blank before the colon": head(f"Content-Length : {LENGTH}\r\n") + CONTENT,
    "obs-fold": head("Transfer-Encoding:\r\n chunked\r\n") + CHUNKS,
    "a folded length": head(f"Content-Length:\r\n\t{LENGTH}\r\n") + CONTENT,
    "bare LF": head(SIZED).replace("\r\n", "\n") + CONTENT,
    "one bare LF": head("X-A: b\nTransfer-Encoding: chunked\r\n") + CHUNKS,
    "bare CR": head("X-A: b\rTransfer-Encoding: chunked\r\n") + CHUNKS,
    "NUL": head("X-A: b\0c\r\n" + SIZED) + CONTENT,
    "no name": head(": b\r\n" + SIZED) + CONTENT,
    "a name with a blank": head("X A: b\r\n" + SIZED) + CONTENT,
    "no Host": head(SIZED, host="") + CONTENT,
    "two Hosts": head(SIZED, host="Host: localhost\r\nHost: y\r\n") + CONTENT,
    "no host in Host": head(SIZED, host="Host: a b\r\n") + CONTENT,
    "another host in the target": head(SIZED, line="POST http://y/ HTTP/1.1") + CONTENT,
    "chunked in HTTP/1.0": head(CHUNKED, line="POST / HTTP/1.0") + CHUNKS,
    "HTTP/1.2": head(SIZED, line="POST / HTTP/1.2") + CONTENT,
    "HTTP/0.9": "POST /\r\n\r\n",
    "HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a blank in the target": head(SIZED, line="POST / / HTTP/1.1") + CONTENT,
    "a chunk with a sign": head(CHUNKED) + CHUNKS.replace("11", "+11", 1),
    "a chunk in C's way": head(CHUNKED) + CHUNKS.replace("11", "0x11", 1),
    "a chunk that ends with LF": head(CHUNKED) + CHUNKS.replace("11\r\n", "11\n", 1),
    "a chunk that is longer": head(CHUNKED) + CHUNKS.replace("11\r\n", "10\r\n", 1),
    "a chunk that overflows": head(CHUNKED) + "fffffffffffffffff\r\nx\r\n0\r\n\r\n",
    "an extension with LF": head(CHUNKED) + CHUNKS.replace("11\r\n", "11;a\nb\r\n", 1),
    "a last chunk that ends with LF": head(CHUNKED) + CHUNKS.replace("0\r\n\r\n", "0\n\n"),
}


@pytest.mark.parametrize("octets", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
def test_is_refused(daemon, octets):
    before = daemon.log.count("accepted")
    with HTTP(daemon.address) as http:
        http.send((octets + SMUGGLED).encode("latin-1"))
        answer = http.answer()
        if answer:
            assert 400 <= answer.status < 600, answer.octets
            assert answer.fields["connection"] == "close"
        assert http.is_closed()
    assert daemon.log.count("accepted") == before
    assert "smuggled" not in daemon.log


@pytest.mark.parametrize("more, status", [
    ({"X-Large": "y" * 20_000}, 431), ({f"X-{n}": "y" for n in range(3000)}, 431),
    ({f"X-{n}": "y" * 1000 for n in range(300)}, 431)], ids=["one field", "many", "all"])
def test_heads_have_bounds(daemon, more, status):
    with HTTP(daemon.address) as http:
        http.send((head("".join(f"{name}: {value}\r\n" for name, value in more.items()) + SIZED) + CONTENT).encode())
        answer = http.answer()
        # More than a head may have at all is not answered.
        assert answer is None or (answer.status, answer.fields["connection"]) == (status, "close")
        assert http.is_closed()


def test_a_thousand_recipients_fit(daemon):
    more = "".join(f"X-Envelope-Recipient: {encoded(f'u{n}@one.test')}\r\n" for n in range(999))
    with HTTP(daemon.address) as http:
        assert http.ask((head(more + SIZED) + CONTENT).encode()).status == 200


def test_chunks_may_say_more(daemon):
    """Extensions and trailers are read over; a trailer is never envelope."""
    extended = CHUNKS.replace("11\r\n", '11;a=b;c="d"\r\n', 1)
    trailers = f"0\r\nX-Envelope-Recipient: {encoded('trailer@one.test')}\r\nX-Other: y\r\n\r\n"
    with HTTP(daemon.address) as http:
        for body in (extended, CHUNKS.replace("0\r\n\r\n", trailers)):
            assert http.ask((head(CHUNKED) + body).encode()).status == 200
        # Without end they are no longer free: the connection is closed in the middle of what is sent.
        try:
            http.send((head(CHUNKED) + f"1;{'a' * 1000}\r\nS\r\n" * 200).encode())
            assert http.answer() is None
        except (ConnectionResetError, BrokenPipeError):
            pass
    assert "trailer@one.test" not in daemon.log

"""slimta.conf as an operator meets it: `slimtad check`, and what `run` refuses to start with."""

import re

import pytest

from harness.certificate import make_certificate
from harness.slimtad import CONFIGURATION, NOT_PERMITTED, OK, USAGE, run_slimtad, toml


@pytest.fixture
def slimtad(make_slimtad):
    """One that has a user and was never started: its configuration is in order."""
    return make_slimtad().add_user()


def check(slimtad, text=None):
    if text is not None:
        slimtad.configuration.write_text(text)
    return run_slimtad("check", "--config", slimtad.configuration)


def test_check_of_what_is_in_order(slimtad):
    result = check(slimtad)
    assert result.returncode == OK, result.stderr


FIVE_MISTAKES = """\
hostname = 5

[daemon]
drain_timeout = "soon"

[tls]
certificate = "{certificate}"
key = "{key}"

[[edge]]
name = "submission"
type = "smtp"
listen = ["127.0.0.1:99999"]
tsl = "starttls"
auth = "perhaps"
"""


def mistakes(slimtad, result):
    """What was said of lines of the configuration."""
    return re.findall(re.escape(str(slimtad.configuration)) + r":\d+:.*", result.stdout + result.stderr)


def test_five_mistakes(slimtad):
    """The issue's own case: all five, each with file, line, key, and what is allowed."""
    text = FIVE_MISTAKES.format(certificate=slimtad.certificate.chain, key=slimtad.certificate.key)
    result = check(slimtad, text)
    assert result.returncode == CONFIGURATION
    said = (result.stdout + result.stderr).splitlines()
    for line, words in [
        (1, ["hostname"]), (4, ["daemon.drain_timeout", "soon"]), (13, ["listen", "99999"]),
        (14, ["tsl", 'did you mean "tls"']), (15, ["auth", "perhaps", "required", "optional", "none"]),
    ]:
        place = f"{slimtad.configuration}:{line}:"
        mine = [entry for entry in said if place in entry]
        assert mine, f"no word about line {line}:\n{result.stdout}{result.stderr}"
        assert all(word in mine[0] for word in words), mine[0]
    assert len(mistakes(slimtad, result)) == 5


def test_run_says_the_same_and_starts_nothing(slimtad):
    text = FIVE_MISTAKES.format(certificate=slimtad.certificate.chain, key=slimtad.certificate.key)
    slimtad.configuration.write_text(text)
    result = run_slimtad("run", "--config", slimtad.configuration)
    assert result.returncode == CONFIGURATION
    assert len(mistakes(slimtad, result)) == 5


@pytest.mark.parametrize("key, meant", [("hostnam", "hostname"), ("limits.message_sise", "message_size"),
                                        ("queue.polices", "policies"), ("relay.idle_timeuot", "idle_timeout")])
def test_unknown_key_names_the_nearest(slimtad, key, meant):
    table, _, name = key.rpartition(".")
    if table:
        slimtad.change(**{table: {name: "1s"}})
    else:
        slimtad.change(**{name: "x"})
    result = check(slimtad)
    assert result.returncode == CONFIGURATION
    assert f'did you mean "{meant}"' in result.stdout + result.stderr


def test_text_that_is_not_toml(slimtad):
    result = check(slimtad, "hostname = \"x\"\n[daemon\n")
    assert result.returncode == CONFIGURATION
    assert re.search(re.escape(str(slimtad.configuration)) + r":[23]:", result.stdout + result.stderr)


def test_no_configuration(slimtad):
    result = run_slimtad("check", "--config", slimtad.folder / "missing.conf")
    assert result.returncode == CONFIGURATION
    assert "missing.conf" in result.stdout + result.stderr


def open_relay(slimtad, **edge):
    settings = dict(slimtad.settings)
    settings["edge"] = [{"name": "open", "type": "smtp", "tls": "none", "auth": "none"} | edge]
    slimtad.configuration.write_text(toml(settings) + "\n")
    return check(slimtad)


@pytest.mark.parametrize("edge", [
    {"listen": ["0.0.0.0:2525"]},
    {"listen": ["[::]:2525"]},
    {"listen": ["192.0.2.25:2525"]},
    {"listen": ["127.0.0.1:2525", "0.0.0.0:2526"]},
    {"listen": ["0.0.0.0:2525"], "trusted_networks": ["0.0.0.0/0"]},
    {"listen": ["[::]:2525"], "trusted_networks": ["::/0"]},
    {"listen": ["0.0.0.0:2525"], "tls": "starttls", "auth": "optional"},
], ids=str)
def test_open_relay_is_refused(slimtad, edge):
    """An edge where anybody may send to anywhere is a mistake in the configuration."""
    result = open_relay(slimtad, **edge)
    assert result.returncode == CONFIGURATION, edge
    assert "relay" in (result.stdout + result.stderr).lower()


@pytest.mark.parametrize("edge", [
    {"listen": ["127.0.0.1:2525"]},
    # A port that nothing of the other tests has: check looks.
    {"listen": ["0.0.0.0:22525"], "trusted_networks": ["192.0.2.0/24"]},
], ids=str)
def test_what_is_no_open_relay(slimtad, edge):
    assert open_relay(slimtad, **edge).returncode == OK


def test_plaintext_passwords_want_their_own_word(slimtad):
    """auth = "required" and tls = "none": nobody could log in, or everybody's password would be read."""
    slimtad.change(edge=[
        {"name": "clear", "type": "smtp", "listen": ["127.0.0.1:2525"], "tls": "none", "auth": "required"}])
    assert check(slimtad).returncode == CONFIGURATION
    slimtad.settings["edge"][0]["plaintext_auth"] = True
    slimtad.change()
    assert check(slimtad).returncode == OK


@pytest.mark.parametrize("what", ["certificate", "key"])
def test_missing_certificate_or_key(slimtad, what):
    """W of python-slimta's users (#74): never a start without the TLS that was asked for."""
    slimtad.change(tls={what: str(slimtad.folder / "missing.pem")})
    for command in ("check", "run"):
        result = run_slimtad(command, "--config", slimtad.configuration)
        assert result.returncode not in (OK, None)
        assert "missing.pem" in result.stdout + result.stderr


def test_key_of_another_certificate(slimtad, place):
    slimtad.change(tls={"key": str(make_certificate(place.path, "other.test").key)})
    assert check(slimtad).returncode not in (OK, None)


@pytest.mark.parametrize("what", ["users", "key"])
def test_secrets_that_others_can_read(slimtad, what):
    path = slimtad.users if what == "users" else slimtad.certificate.key
    path.chmod(0o644)
    result = check(slimtad)
    assert result.returncode in (NOT_PERMITTED, CONFIGURATION)
    assert str(path) in result.stdout + result.stderr


def test_wrong_command_line(slimtad):
    for arguments in (["fly"], ["run", "--no-such-option"], ["passwd"], ["check", "--config"]):
        assert run_slimtad(*arguments).returncode == USAGE, arguments


def test_help_and_version():
    assert "passwd" in run_slimtad("--help").stdout
    assert re.search(r"\d+\.\d+", run_slimtad("--version").stdout)


def test_passwd_keeps_no_password(slimtad):
    """A line a user, NAME:HASH; nothing for others to read; a new password takes the old one's place."""
    lines = slimtad.users.read_text().splitlines()
    (mine,) = [line for line in lines if line.startswith("tester:")]
    assert re.match(r"tester:\$(y|2[aby]|6)\$", mine)
    assert slimtad.users.stat().st_mode & 0o007 == 0
    slimtad.add_user(password="another")
    (other,) = [line for line in slimtad.users.read_text().splitlines() if line.startswith("tester:")]
    assert other != mine
    result = run_slimtad("passwd", "--config", slimtad.configuration, "tester", "--delete")
    assert result.returncode == OK
    assert "tester:" not in slimtad.users.read_text()


@pytest.mark.parametrize("name", ["a:b", "", "a\nb"], ids=repr)
def test_passwd_refuses_names_that_would_break_the_file(slimtad, name):
    before = slimtad.users.read_text()
    assert run_slimtad("passwd", "--config", slimtad.configuration, name, stdin="x\n").returncode != OK
    assert slimtad.users.read_text() == before


def test_passwd_refuses_an_empty_password(slimtad):
    assert run_slimtad("passwd", "--config", slimtad.configuration, "new", stdin="\n").returncode != OK
    assert run_slimtad("passwd", "--config", slimtad.configuration, "new", stdin="").returncode != OK
    assert "new:" not in slimtad.users.read_text()

"""`slimtad check` is green if, and only if, the service would start: files as its user sees them, ports, certificates."""

import os
import pathlib
import re
import shutil
import socket
import subprocess

import pytest

from harness.machine import GROUP, IS_ROOT, SUBMISSION, USER, give
from harness.slimtad import CANNOT_CREATE, CONFIGURATION, OK, run_slimtad

needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root can judge as another user")


@pytest.fixture
def slimtad(make_slimtad):
    return make_slimtad().add_user()


def check(slimtad, units=None):
    return run_slimtad(
        "check", "--config", slimtad.configuration, env={"SYSTEMD_UNIT_PATH": str(units or slimtad.folder / "no-units")})


def line_of(slimtad, text):
    lines = slimtad.configuration.read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.startswith(text))


def unit(slimtad, text, **drop_ins):
    """A folder of units with slimtad.service in it."""
    folder = slimtad.folder / "units"
    (folder / "slimtad.service.d").mkdir(parents=True)
    (folder / "slimtad.service").write_text(f"[Service]\n{text}\n")
    for name, content in drop_ins.items():
        (folder / "slimtad.service.d" / f"{name}.conf").write_text(f"[Service]\n{content}\n")
    return folder


# Files


@needs_root
@pytest.mark.parametrize("what", ["key", "users", "certificate"])
def test_what_only_root_can_read(slimtad, what):
    path = {"key": slimtad.certificate.key, "users": slimtad.users, "certificate": slimtad.certificate.chain}[what]
    shutil.chown(path, "root", "root")
    path.chmod(0o600)
    result = check(slimtad)
    assert result.returncode == CONFIGURATION
    assert f"slimta.conf:{line_of(slimtad, what)}: " in result.stderr and str(path) in result.stderr, result.stderr
    assert f"; {USER} must be able to" in result.stderr


@needs_root
def test_a_folder_that_lets_only_root_pass(slimtad, place):
    """As /etc/letsencrypt/live is."""
    closed = place.path / "live"
    closed.mkdir(mode=0o700)
    shutil.move(slimtad.certificate.key, closed / "key.pem")
    slimtad.change(tls={"key": str(closed / "key.pem")})
    result = check(slimtad)
    assert result.returncode == CONFIGURATION and "tls.key" in result.stderr, result.stderr


def test_all_problems_at_once_with_lines(slimtad):
    slimtad.certificate.key.unlink()
    slimtad.users.chmod(0o644)
    slimtad.change(
        relay={"type": "smtp", "host": "smart.test:587", "username": "me", "password_file": "/nowhere/password",
               "port": None, "allow_networks": None})
    result = check(slimtad)
    assert result.returncode == CONFIGURATION
    for key, line in (("tls.key", "key ="), ("auth.users", "users ="), ("relay.password_file", "password_file =")):
        assert f":{line_of(slimtad, line)}: {key}: " in result.stderr, result.stderr
    assert "3 errors" in result.stderr


def test_a_state_folder_of_somebody_else(slimtad):
    slimtad.change(daemon={"state_directory": "/proc/self"})
    result = check(slimtad)
    assert result.returncode == CONFIGURATION and "daemon.state_directory" in result.stderr


# Ports


def test_a_port_that_is_taken_and_by_whom(slimtad):
    with socket.create_server((slimtad.address, SUBMISSION)):
        result = check(slimtad)
    assert result.returncode == CONFIGURATION
    name = pathlib.Path("/proc/self/comm").read_text().strip()
    assert re.search(rf"edge\[0\].listen: {slimtad.address}:{SUBMISSION} is taken by .*{re.escape(name)} "
                     rf"\(process {os.getpid()}\)", result.stderr), result.stderr
    assert check(slimtad).returncode == OK


def test_ports_of_the_daemon_that_runs_are_its_own(slimtad):
    slimtad.start()
    result = check(slimtad)
    assert result.returncode == OK, result.stderr


def test_an_address_that_is_not_here(slimtad):
    edge = slimtad.settings["edge"][0] | {"listen": ["192.0.2.99:2587"]}
    slimtad.change(edge=[edge])
    result = check(slimtad)
    assert result.returncode == CONFIGURATION and "192.0.2.99:2587" in result.stderr


# UNIX sockets


def listen(slimtad, path, units=None):
    edge = slimtad.settings["edge"][0] | {"listen": [f"unix:{path}"]}
    slimtad.change(edge=[edge])
    return check(slimtad, units)


def test_where_a_socket_cannot_be_made(slimtad, place):
    """A folder that is not there or is none, a file that is no socket, and somebody who listens; nothing of it is touched."""
    folder = place.folder("sockets")
    give(folder)
    path = folder / "s"
    assert listen(slimtad, path).returncode == OK
    result = listen(slimtad, folder / "no" / "s")
    assert result.returncode == CONFIGURATION and f"edge[0].listen: {folder}/no is not there" in result.stderr
    (folder / "file").write_text("mine")
    result = listen(slimtad, folder / "file" / "s")
    assert result.returncode == CONFIGURATION and f"{folder}/file is no folder" in result.stderr
    result = listen(slimtad, folder / "file")
    assert result.returncode == CONFIGURATION and "no socket" in result.stderr
    assert run_slimtad("run", "--config", slimtad.configuration).returncode == CANNOT_CREATE
    assert (folder / "file").read_text() == "mine"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        result = listen(slimtad, path)
        assert result.returncode == CONFIGURATION and "another program listens there" in result.stderr
    # Nobody does any more: it is replaced.
    assert listen(slimtad, path).returncode == OK


def test_a_socket_of_the_daemon_that_runs_is_its_own(slimtad):
    """And the folder of its sockets is made at the start."""
    edge = {"name": "s", "type": "sendmail", "listen": [f"unix:{slimtad.runtime}/sendmail"]}
    slimtad.change(edge=[*slimtad.settings["edge"], edge])
    slimtad.runtime.rmdir()
    assert check(slimtad).returncode == OK
    slimtad.start()
    result = check(slimtad)
    assert result.returncode == OK, result.stderr


@needs_root
def test_a_socket_in_a_folder_that_the_unit_may_not_write_to(slimtad, place):
    folder = place.folder("roots")
    shutil.chown(folder, "root", "root")
    folder.chmod(0o755)
    assert listen(slimtad, folder / "s").returncode == OK, "started as root it can"
    result = listen(slimtad, folder / "s", unit(slimtad, ""))
    assert result.returncode == CONFIGURATION and f"cannot make a socket in {folder}" in result.stderr


def test_sockets_of_services(slimtad, place):
    """Whom the daemon asks: not there is a warning, what is no socket an error."""
    folder = place.folder("services")
    folder.chmod(0o755)
    slimtad.change(
        queue={"policies": ["spamassassin"]}, spamassassin={"to": f"unix:{folder}/spamd"},
        policy_service=[{"at": "rcpt", "to": f"unix:{folder}/policy"}])
    result = check(slimtad)
    assert result.returncode == OK
    assert f"policy_service[0].to: {folder}/policy is not there: until it is, mail is refused" in result.stderr
    assert f"spamassassin.to: {folder}/spamd is not there: until it is, mail passes" in result.stderr
    for name in "policy", "spamd":
        (folder / name).write_text("")
    result = check(slimtad)
    assert result.returncode == CONFIGURATION and result.stderr.count("is no socket") == 2


def test_dovecots_socket_is_judged_as_any_other(slimtad, place):
    folder = place.folder("dovecot")
    folder.chmod(0o755)
    path = folder / "auth-client"
    slimtad.change(auth={"backends": ["dovecot"], "dovecot": {"socket": f"unix:{path}"}})
    result = check(slimtad)
    assert result.returncode == OK
    assert f"auth.dovecot.socket: {path} is not there: who logs in is to try again later" in result.stderr, result.stderr
    path.write_text("")
    result = check(slimtad)
    assert result.returncode == CONFIGURATION and f"auth.dovecot.socket: {path} is no socket" in result.stderr
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        if IS_ROOT:
            path.chmod(0o600)
            result = check(slimtad)
            assert result.returncode == CONFIGURATION
            assert f"auth.dovecot.socket: {USER} may not speak to {path}: Permission denied" in result.stderr
            path.chmod(0o666)
        result = check(slimtad)
        assert result.returncode == OK and f"unix:{path} cannot be asked: " in result.stderr, result.stderr


def test_what_is_said_of_auth_is_said_once(slimtad):
    """Also where there is no users file, and with the line that it is about."""
    slimtad.users.unlink()
    slimtad.change(auth={"mechanisms": ["PLAIN", "XOAUTH2"]})
    result = check(slimtad)
    text = f"slimta.conf:{line_of(slimtad, 'mechanisms')}: auth.mechanisms: none of auth.backends serves XOAUTH2"
    assert result.returncode == OK and result.stderr.count(text) == 1, result.stderr
    assert result.stderr.count("none of auth.backends serves") == 1 and "does not exist; make a user" in result.stderr


# Certificates


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def issue(folder, name, issuer=None, days=60, extensions="basicConstraints=CA:FALSE"):
    """A key and a certificate by `issuer` (a path without its ending), or by itself; its path without the ending."""
    path = folder / name
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
            "-keyout", f"{path}.key", "-out", f"{path}.csr")
    (folder / f"{name}.ext").write_text(extensions + "\n")
    by = ["-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key", "-CAcreateserial"] if issuer else ["-key", f"{path}.key"]
    openssl("x509", "-req", "-in", f"{path}.csr", *by, "-days", days, "-extfile", folder / f"{name}.ext",
            "-out", f"{path}.pem")
    os.chmod(f"{path}.key", 0o640)
    if IS_ROOT:
        shutil.chown(f"{path}.key", group=GROUP)
    return path


def use(slimtad, path):
    slimtad.change(tls={"certificate": f"{path}.pem", "key": f"{path}.key"})


def test_names_chain_and_end_are_shown(slimtad):
    folder = slimtad.folder
    root = issue(folder, "root", extensions="basicConstraints=CA:TRUE")
    middle = issue(folder, "middle", root, extensions="basicConstraints=CA:TRUE")
    leaf = issue(folder, "leaf", middle, extensions="subjectAltName=DNS:mail.slimtad.test,DNS:other.test")
    use(slimtad, leaf)
    assert "is an intermediate missing?" in check(slimtad).stderr
    pathlib.Path(f"{leaf}.pem").write_text(pathlib.Path(f"{leaf}.pem").read_text() + pathlib.Path(f"{middle}.pem").read_text())
    result = check(slimtad)
    assert result.returncode == OK, result.stderr
    assert re.search(
        r"certificate .*leaf\.pem: for mail\.slimtad\.test other\.test, issued by middle, by root, until 20", result.stdout)
    # The root is none that this system knows.
    assert "leads to no root" in result.stderr
    # With the root in it nothing is missing but trust; a system that trusts it says nothing.
    trusting = run_slimtad("check", "--config", slimtad.configuration, env={"SSL_CERT_FILE": f"{root}.pem"})
    assert "certificate" not in trusting.stderr, trusting.stderr


def test_certificates_that_want_attention(slimtad):
    use(slimtad, issue(slimtad.folder, "short", days=3, extensions="subjectAltName=DNS:another.test"))
    result = check(slimtad)
    assert result.returncode == OK
    line = line_of(slimtad, "certificate =")
    for text in ("expires in", "is self-signed", "no certificate is for mail.slimtad.test, but for another.test"):
        assert re.search(rf"warning: .*:{line}: tls.certificate: .*{re.escape(text)}", result.stderr), result.stderr
    use(slimtad, issue(slimtad.folder, "ended", days=-1, extensions="subjectAltName=DNS:*.slimtad.test"))
    result = check(slimtad)
    assert "has expired" in result.stderr and "no certificate is for" not in result.stderr, result.stderr


# The unit


def test_credentials_of_the_unit(slimtad):
    secret = slimtad.folder / "secret.key"
    shutil.move(slimtad.certificate.key, secret)
    secret.chmod(0o600)
    if IS_ROOT:
        shutil.chown(secret, "root", "root")  # as LoadCredential= is for
    slimtad.change(tls={"key": "credential:tls-key"})
    unknown = check(slimtad)
    assert unknown.returncode == OK and "credential:tls-key cannot be looked at" in unknown.stderr
    units = unit(slimtad, "LoadCredential=another:/nowhere", keys=f"LoadCredential=tls-key:{secret}")
    known = check(slimtad, units)
    assert known.returncode == OK and "cannot be looked at" not in known.stderr, known.stderr
    assert "key credential:tls-key: a new one needs a restart" in known.stdout
    secret.write_text("no key\n")
    assert check(slimtad, units).returncode == CONFIGURATION


@pytest.mark.parametrize("passed", [
    "", "LoadCredential=other:/x", "ImportCredential=", "LoadCredential=tls-key", "LoadCredentialEncrypted=tls-key:/x",
    "SetCredential=tls-key:x", "ImportCredential=tls-*"])
def test_a_credential_that_the_unit_does_not_pass(slimtad, passed):
    """The start is refused for it: so is check, where it is this configuration that the unit starts."""
    is_passed = passed not in ("", "LoadCredential=other:/x", "ImportCredential=")
    slimtad.change(tls={"key": "credential:tls-key"})
    starts = f"ExecStart=/usr/sbin/slimtad run --config {slimtad.configuration}"
    units = unit(slimtad, f"{starts}\n{passed}")
    result = check(slimtad, units)
    assert result.returncode == (OK if is_passed else CONFIGURATION), result.stderr
    text = "slimtad.service passes no such credential: LoadCredential=tls-key:/path in a drop-in"
    assert (text in result.stderr) != is_passed
    # Another configuration is no matter of that unit.
    (units / "slimtad.service").write_text(f"[Service]\nExecStart=/usr/sbin/slimtad run --config /else\n{passed}\n")
    assert check(slimtad, units).returncode == OK


def test_text_that_is_not_utf8_has_a_line(slimtad):
    lines = slimtad.configuration.read_bytes().count(b"\n")
    slimtad.configuration.write_bytes(slimtad.configuration.read_bytes() + "# für\n".encode("latin-1"))
    result = check(slimtad)
    assert result.returncode == CONFIGURATION and f"{slimtad.configuration}:{lines + 1}: is not UTF-8" in result.stderr


def test_a_maildir_that_the_sandbox_does_not_let_us_write_to(slimtad):
    maildir = slimtad.folder / "maildir"
    maildir.mkdir()
    give(maildir)
    slimtad.change(relay={"type": "maildir", "path": str(maildir), "port": None, "connect_timeout": None,
                          "idle_timeout": None, "allow_networks": None})
    assert "sandbox" not in check(slimtad).stderr
    units = unit(slimtad, "ProtectSystem=strict\nStateDirectory=slimtad")
    result = check(slimtad, units)
    assert result.returncode == OK
    assert f":{line_of(slimtad, 'path =')}: relay.path: the unit's sandbox" in result.stderr, result.stderr
    (units / "slimtad.service.d" / "maildir.conf").write_text(f"[Service]\nReadWritePaths={slimtad.folder}\n")
    assert "sandbox" not in check(slimtad, units).stderr


@needs_root
def test_a_maildir_of_somebody_else(slimtad):
    maildir = slimtad.folder / "maildir"
    maildir.mkdir(mode=0o700)
    slimtad.change(relay={"type": "maildir", "path": str(maildir), "port": None, "connect_timeout": None,
                          "idle_timeout": None, "allow_networks": None})
    result = check(slimtad)
    assert result.returncode == CONFIGURATION and "relay.path" in result.stderr, result.stderr


# The gate


def add(slimtad, text):
    slimtad.configuration.write_text(slimtad.configuration.read_text() + "\n" + text)


NEVER = """
[[dnsbl]]
name = "zen"
zone = "zen.example"

[[rule]]
name = "first"
at = "mail"
sender = "@example.com"
action = "accept"

[[rule]]
name = "second"
at = "mail"
sender = "a@example.com"
reply = "550 no"

[[rule]]
name = "third"
at = "rcpt"
edge = "submision"
reply = "550 no"

[[rule]]
name = "fourth"
at = "connect"
client_certificate = true
action = "log"
"""


def test_rules_that_never_match_are_warnings(slimtad):
    add(slimtad, NEVER)
    result = check(slimtad)
    assert result.returncode == OK, result.stderr
    warnings = [line for line in result.stderr.splitlines() if ": rule[" in line or ": dnsbl[" in line]
    assert len(warnings) == 4, result.stderr
    for number, text in {1: "\"second\" can never match", 2: "did you mean \"submission\"", 3: "client_ca"}.items():
        assert any(f"rule[{number}]" in line and text in line for line in warnings), warnings
    assert any("dnsbl[0]: no rule has dnsbl = \"zen\"" in line for line in warnings)


def test_files_of_the_gate(slimtad):
    """A file of authorities that has none, and one of a zone that is no name: with their lines, and the key not shown."""
    authorities, zone = slimtad.folder / "ca.pem", slimtad.folder / "zone"
    authorities.write_text("no certificate\n")
    zone.write_text("my secret key.zen.example\n")
    zone.chmod(0o600)
    for path in authorities, zone:
        give(path)
    slimtad.change(tls={"client_ca": str(authorities)})
    add(slimtad, f'[[dnsbl]]\nname = "zen"\nzone_file = "{zone}"\n')
    result = check(slimtad)
    assert result.returncode == CONFIGURATION
    assert f"slimta.conf:{line_of(slimtad, 'client_ca')}: tls.client_ca: " in result.stderr, result.stderr
    assert f"slimta.conf:{line_of(slimtad, 'zone_file')}: dnsbl[0].zone_file: " in result.stderr, result.stderr
    assert "secret" not in result.stderr


@pytest.mark.parametrize("size", [1 << 20, (1 << 20) + 1])
def test_authorities_that_are_too_long_for_start_are_so_for_check(slimtad, size):
    authorities = slimtad.folder / "ca.pem"
    text = slimtad.certificate.chain.read_bytes()
    authorities.write_bytes(text + b"\n" * (size - len(text)))
    give(authorities)
    slimtad.change(tls={"client_ca": str(authorities)})
    result = check(slimtad)
    if size <= 1 << 20:
        assert result.returncode == OK, result.stderr
        slimtad.start()
        return
    assert result.returncode == CONFIGURATION
    assert f":{line_of(slimtad, 'client_ca')}: tls.client_ca: {authorities} is longer than" in result.stderr
    assert "1 error" in result.stderr, result.stderr
    run = run_slimtad("run", "--config", slimtad.configuration)
    assert run.returncode == CONFIGURATION and "tls.client_ca" in run.stderr, run.stderr


def test_a_zone_and_a_password_that_are_credentials(slimtad):
    """Found where the unit says, and looked at as those that are files."""
    zone, password = slimtad.folder / "zone", slimtad.folder / "password"
    zone.write_text("key.zen.example\n")
    password.write_text("secret\n")
    slimtad.change(
        relay={"type": "smtp", "host": "smart.test:587", "username": "me", "password_file": "credential:pw",
               "port": None, "allow_networks": None})
    add(slimtad, '[[dnsbl]]\nname = "zen"\nzone_file = "credential:dqs-zone"\n')
    result = check(slimtad)
    assert result.returncode == OK and "credential:dqs-zone cannot be looked at" in result.stderr, result.stderr
    units = unit(slimtad, f"LoadCredential=dqs-zone:{zone}\nLoadCredential=pw:{password}")
    result = check(slimtad, units)
    assert result.returncode == OK and "cannot be looked at" not in result.stderr, result.stderr
    zone.write_text("no name\n")
    password.write_text("x" * 5000)
    result = check(slimtad, units)
    assert result.returncode == CONFIGURATION
    assert f":{line_of(slimtad, 'zone_file')}: dnsbl[0].zone_file: in credential:dqs-zone is no domain" in result.stderr
    assert f":{line_of(slimtad, 'password_file')}: relay.password_file: {password} is longer than 4096" in result.stderr
    # The line's end is not part of it, as at start.
    zone.write_text("key.zen.example\r\n")
    password.write_text("\n")
    result = check(slimtad, units)
    assert "relay.password_file: credential:pw is empty" in result.stderr and "zone_file" not in result.stderr


def test_a_second_certificate_is_looked_at_with_the_authorities(slimtad):
    """As at start, where each certificate's side of TLS has them."""
    slimtad.change(tls={"client_ca": str(slimtad.folder / "nothing.pem")})
    add(slimtad, f'[[tls.certificates]]\ncertificate = "{slimtad.certificate.chain}"\nkey = "{slimtad.certificate.key}"\n')
    result = check(slimtad)
    assert result.returncode == CONFIGURATION
    assert result.stderr.count("tls.client_ca: ") == 1, result.stderr


def test_says_what_clients_are_asked(slimtad):
    """An operator who has written rules sees that they are read, and where they bite."""
    slimtad.change(
        rule=[{"name": "closed", "at": "rcpt", "recipient": "@closed.test", "reply": "554 5.7.1 closed"}],
        spf={"fail": {"code": 550, "message": "5.7.1 {reason}"}},
        policy_service=[{"name": "delegate", "at": ["rcpt", "mail"], "to": "127.0.0.1:9"}])
    said = check(slimtad).stdout.splitlines()
    assert [line for line in said if line.startswith(("  rules", "  SPF", "  policy service"))] == [
        "  rules at rcpt: closed", "  SPF: refused is fail", "  policy service delegate: 127.0.0.1:9, at mail, rcpt"]

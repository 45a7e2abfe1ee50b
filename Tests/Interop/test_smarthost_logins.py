"""Logins at smarthosts: mechanisms with Postfix and Dovecot, certificates with Exim, tokens with a provider."""

import json

import pytest

from harness.certificate import make_certificate, make_client_certificate
from harness.dovecot import AUTH_PORT, Dovecot
from harness.exim import EximMX
from harness.machine import MX_PORT, SUBMISSION, give
from harness.messages import message
from harness.postfix import PostfixMX
from harness.slimtad import CONFIGURATION, OK, run_slimtad
from harness.tokens import Provider

MAILBOX = "team@smart.test"


def secret(folder, name, text):
    path = folder / name
    path.write_text(text + "\n")
    path.chmod(0o600)
    give(path)
    return str(path)


def towards(make_slimtad, host, certificate, name="slimtad", **relay):
    """A slimtad whose mail all goes to `host`, and which trusts `certificate`."""
    slimtad = make_slimtad(
        name=name, relay={"type": "smtp", "host": host, "port": None, "allow_networks": None} | relay)
    slimtad.environment = {"SSL_CERT_FILE": str(certificate.chain)}
    return slimtad


@pytest.fixture
def certificate(place):
    """For the programs of this test, by any name that they have."""
    def make(address):
        made = make_certificate(place.path, f"smart-{address}.test", address)
        made.key.chmod(0o644)
        return made
    return make


# ---- passwords ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("offered", "used"), [
    ("plain login cram-md5 scram-sha-1 scram-sha-256", "SCRAM-SHA-256"), ("plain login cram-md5 scram-sha-1", "SCRAM-SHA-1"),
    ("login cram-md5 plain", "PLAIN"), ("cram-md5 login", "LOGIN"), ("cram-md5", "CRAM-MD5")])
def test_the_strongest_that_postfix_offers(place, make_slimtad, certificate, offered, used):
    dovecot = Dovecot(place, logins={"relay": "{PLAIN}correct horse::::::"}, mechanisms=offered).start()
    postfix = PostfixMX(place, [MAILBOX], extra=(
        "smtpd_sasl_auth_enable = yes\nsmtpd_sasl_type = dovecot\n"
        f"smtpd_sasl_path = inet:{dovecot.address}:{AUTH_PORT}\nsmtpd_tls_auth_only = yes\n"
        "smtpd_client_restrictions = permit_sasl_authenticated, reject\nsmtpd_sasl_security_options = noanonymous\n"))
    own = certificate(postfix.address)
    postfix._extra += (
        f"smtpd_tls_security_level = may\nsmtpd_tls_cert_file = {own.chain}\nsmtpd_tls_key_file = {own.key}\n")
    postfix.start()
    slimtad = towards(make_slimtad, f"{postfix.address}:{MX_PORT}", own, username="relay")
    slimtad.change(relay={"password_file": secret(slimtad.folder, "password", "correct horse")})
    slimtad.start()
    slimtad.submit(message(), MAILBOX)
    postfix.wait_for(MAILBOX)
    assert f"sasl_method={used}, sasl_username=relay" in postfix.log
    assert "correct horse" not in slimtad.log


def test_bound_to_the_session(make_slimtad):
    """-PLUS: the edge of another slimtad, which gsasl logs in to likewise (test_sasl)."""
    host = make_slimtad(name="smarthost", queue={"deliver": False}, auth={"mechanisms": ["SCRAM-SHA-256-PLUS"]})
    host.add_user("relay", "right").start()
    slimtad = towards(make_slimtad, f"{host.address}:{SUBMISSION}", host.certificate, username="relay")
    slimtad.change(relay={"password_file": secret(slimtad.folder, "password", "right")})
    slimtad.start()
    slimtad.submit(message(), MAILBOX)
    slimtad.wait_for_attempts(status="2.6.0")


# ---- certificates ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("has_one", [True, False])
def test_a_certificate_for_exim(place, make_slimtad, certificate, has_one):
    own = make_client_certificate(place.path, "relay@client.test")
    for path in (own.chain, own.key):
        give(path)
    exim = EximMX(place, None, "smart.test")
    exim.certificate = certificate(exim.address)
    exim.client_ca = own.chain
    exim.start()
    slimtad = towards(make_slimtad, f"{exim.address}:{MX_PORT}", exim.certificate, tls="required")
    if has_one:
        slimtad.change(relay={"client_certificate": str(own.chain), "client_key": str(own.key)})
    slimtad.start()
    slimtad.submit(message(), MAILBOX)
    if has_one:
        exim.wait_for()
    else:
        slimtad.wait_for_attempts(status="5.7.1")


def test_the_certificate_is_the_login(place, make_slimtad):
    """EXTERNAL, with the edge of another slimtad."""
    name = "relay@client.test"
    own = make_client_certificate(place.path, name)
    for path in (own.chain, own.key):
        give(path)
    host = make_slimtad(name="smarthost", queue={"deliver": False}, auth={"mechanisms": ["EXTERNAL", "PLAIN"]})
    host.change(tls={"client_ca": str(own.chain)})
    host.add_user(name, "never used").start()
    slimtad = towards(
        make_slimtad, f"{host.address}:{SUBMISSION}", host.certificate, username=name, client_certificate=str(own.chain),
        client_key=str(own.key)).start()
    slimtad.submit(message(), MAILBOX)
    slimtad.wait_for_attempts(status="2.6.0")


def test_check_of_certificates_and_keys(place, make_slimtad):
    own, other = (make_client_certificate(place.path, f"{name}@client.test") for name in ("own", "other"))
    for path in (own.chain, own.key, other.key):
        give(path)
    slimtad = towards(make_slimtad, "127.0.0.1:587", own, client_certificate=str(own.chain), client_key=str(other.key))
    slimtad.add_usual_user()
    result = run_slimtad("check", "--config", slimtad.configuration)
    assert result.returncode == CONFIGURATION
    assert "relay.client_certificate" in result.stderr and "key" in result.stderr
    slimtad.change(relay={"client_key": str(own.key)})
    assert run_slimtad("check", "--config", slimtad.configuration).returncode == OK


# ---- tokens ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def provider(place, certificate):
    made = Provider(place, None)
    made.certificate = certificate(made.address)
    return made.start()


def with_tokens(make_slimtad, provider, token="refresh-0", name="slimtad", **relay):
    slimtad = towards(
        make_slimtad, provider.host, provider.certificate, name, auth="oauth2", username="maria@smart.test",
        token_endpoint=provider.endpoint, client_id="me", **relay)
    if "grant" not in relay:
        slimtad.change(relay={"refresh_token_file": secret(slimtad.folder, "refresh", token)})
    return slimtad


def stored(slimtad):
    (path,) = slimtad.state.glob("refresh-token-*")
    assert path.stat().st_mode & 0o777 == 0o600
    return json.loads(path.read_text())["token"]


def test_tokens_that_end(make_slimtad, provider):
    """While mail goes on: each token is asked for once, and no message is bounced or put off for one that has ended."""
    provider.life = 2
    slimtad = with_tokens(make_slimtad, provider, refresh_margin="1s").start()
    sent = 0
    while len(provider.requests) < 4:
        slimtad.submit(message(), MAILBOX)
        sent += 1
        slimtad.wait_for_attempts(sent)
    assert len(slimtad.wait_for_attempts(sent, status="2.0.0")) == sent == len(provider.messages)
    assert {login["mechanism"] for login in provider.logins} == {"OAUTHBEARER"}
    assert stored(slimtad) == provider.refresh
    assert provider.refresh not in slimtad.log and "token-" not in slimtad.log


def test_a_token_that_the_host_forgets(make_slimtad, provider):
    for at_once in (False, True):
        provider.at_once = at_once
        slimtad = with_tokens(
            make_slimtad, provider, provider.refresh, f"slimtad-{at_once}", idle_timeout="0s").start()
        slimtad.submit(message(), MAILBOX)
        slimtad.wait_for_attempts(1, status="2.0.0")
        provider.tokens.clear()
        slimtad.submit(message(), MAILBOX)
        slimtad.wait_for_attempts(2, status="2.0.0")
        assert len(slimtad.wait_for_attempts(2)) == 2, "in the same attempt"
        slimtad.finish()
        for path in slimtad.state.glob("refresh-token-*"):
            path.unlink()
    answers = [login["answer"] for login in provider.logins if not login["is_good"]]
    assert answers == ["AQ==", None]


def test_a_kill_in_the_rotation(make_slimtad, provider):
    """When the host sees the first token, the next refresh token is on the disk."""
    slimtad = with_tokens(make_slimtad, provider)
    provider.on_login = lambda token: slimtad.kill()
    slimtad.start()
    slimtad.submit(message(), MAILBOX)
    slimtad.wait_until(lambda: slimtad.process.poll() is not None, what="the kill")
    assert stored(slimtad) == provider.refresh == "refresh-1"
    provider.on_login = lambda token: None
    slimtad.start_again()
    slimtad.wait_for_attempts(status="2.0.0")
    assert [request["refresh_token"] for request in provider.requests] == ["refresh-0", "refresh-1"]


def test_what_only_the_operator_can_put_right(make_slimtad, provider):
    slimtad = with_tokens(make_slimtad, provider, "used up").start()
    for _ in range(3):
        slimtad.submit(message(), MAILBOX)
    slimtad.wait_for_log(r"warning.*no token for a relay, its mail waits.*invalid_grant")
    slimtad.wait_for_attempts(3, status="4.7.0")
    assert len([line for line in slimtad.log.splitlines() if "no token for a relay" in line]) == 1
    status = json.loads(run_slimtad("status", "--config", slimtad.configuration, "--json").stdout)
    assert any("invalid_grant" in warning for warning in status["warnings"])
    assert len(provider.requests) == 1
    # Another one is newer than what came of the last.
    secret(slimtad.folder, "refresh", "refresh-0")
    assert run_slimtad("reload", "--config", slimtad.configuration).returncode == OK
    slimtad.wait_for_attempts(3, status="2.0.0")
    assert "invalid_grant" not in run_slimtad("status", "--config", slimtad.configuration).stdout


def test_an_endpoint_that_is_down(make_slimtad, provider):
    provider.fault = (503, {})
    slimtad = with_tokens(make_slimtad, provider, grant="client_credentials", scope="mail")
    slimtad.change(relay={"client_secret_file": secret(slimtad.folder, "client", "s&cret")})
    slimtad.start()
    slimtad.submit(message(), MAILBOX)
    slimtad.wait_for_attempts(1, status="4.7.0")
    provider.fault = None
    slimtad.wait_for_attempts(1, status="2.0.0")
    assert provider.requests[0] == {
        "grant_type": "client_credentials", "scope": "mail", "client_id": "me", "client_secret": "s&cret"}

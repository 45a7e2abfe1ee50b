"""Logins by token: curl and a client by hand, against an issuer that rotates keys, revokes tokens, and does not answer."""

import base64
import json
import smtplib
import subprocess
import urllib.request

import pytest

from harness.certificate import make_certificate
from harness.http import HTTP, PORT, edge, envelope, request
from harness.issuer import RIG, Issuer, initial
from harness.machine import SUBMISSION, SUBMISSIONS, give, must_exist, wait_until
from harness.slimtad import CONFIGURATION, OK, run_slimtad

pytestmark = pytest.mark.skipif(not RIG.exists(), reason="the laboratory (shared/rigs) is not beside this repository")

MECHANISMS = ["OAUTHBEARER", "XOAUTH2"]
USER = "maria@example.com"
# What jwks.py calls "nokid" is right as long as one key alone can be meant.
BAD = [
    "expired", "early", "issuer", "audience", "noaud", "noexp", "none", "hs256", "kid", "kidconfusion", "sig", "der",
    "crit", "jwk", "idtoken", "dupclaim", "expstring", "huge", "array", "padded",
]


@pytest.fixture
def issuer(place):
    return Issuer(place).start()


def by_keys(issuer, **more):
    return {"issuer": issuer.name_of_it, "audience": "slimtad", "jwks_url": issuer.keys} | more


def by_introspection(issuer, slimtad, **more):
    secret = slimtad.folder / "client-secret"
    secret.write_text("secret\n")
    secret.chmod(0o600)
    give(secret)
    return {
        "issuer": issuer.name_of_it, "audience": "slimtad", "introspection_url": issuer.introspection,
        "client_id": "client", "client_secret_file": str(secret),
    } | more


@pytest.fixture
def make_daemon(make_slimtad, issuer):
    """slimtad that takes passwords and tokens; what is submitted stays."""

    def make(oauth=None):
        slimtad = make_slimtad(queue={"deliver": False})
        slimtad.change(auth={
            "backends": ["file", "oauth"], "mechanisms": ["PLAIN", "LOGIN", *MECHANISMS],
            "oauth": oauth(slimtad) if oauth else by_keys(issuer)})
        return slimtad

    return make


@pytest.fixture
def daemon(make_daemon):
    return make_daemon().start()


def session(slimtad):
    client = smtplib.SMTP(slimtad.address, SUBMISSION, "client.test", timeout=20)
    client.starttls(context=slimtad.certificate.trusting_context())
    client.ehlo()
    return client


def login(slimtad, token, mechanism="OAUTHBEARER", user=USER):
    """(code, what the server said with 334 before it as JSON) of one try."""
    with session(slimtad) as client:
        code, text = client.docmd("AUTH", f"{mechanism} {initial(mechanism, token, user)}")
        if code != 334:
            return code, None
        said = json.loads(base64.b64decode(text))
        code, _ = client.docmd("AQ==")
        return code, said


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("alg", ["RS256", "PS256", "ES256", "EdDSA"])
def test_good_tokens(daemon, issuer, alg, mechanism):
    assert login(daemon, issuer.mint(alg), mechanism) == (235, None)
    assert login(daemon, issuer.mint(alg), mechanism, USER.upper()) == (235, None)
    assert login(daemon, issuer.mint(alg), mechanism, "somebody@example.com")[0] == 535
    assert issuer.count("/jwks") == 1


def test_bad_tokens(daemon, issuer):
    assert login(daemon, issuer.mint())[0] == 235
    for bad in BAD:
        token = issuer.mint("ES256" if bad in ("der", "kidconfusion") else "RS256", bad)
        if bad == "huge":
            # Longer than a line may be: that is said before anybody reads it.
            with session(daemon) as client:
                assert client.docmd("AUTH", f"XOAUTH2 {initial('XOAUTH2', token, USER)}")[0] == 500
            continue
        for mechanism, status in (("OAUTHBEARER", "invalid_token"), ("XOAUTH2", "400")):
            code, said = login(daemon, token, mechanism)
            assert code == 535 and said["status"] == status, (bad, code, said)
    assert login(daemon, issuer.mint(bad="nokid"))[0] == 235
    # One fetch at the start, one for the name that nobody knew.
    assert issuer.count("/jwks") == 2


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("port", [SUBMISSION, SUBMISSIONS], ids=["starttls", "implicit"])
def test_curl(daemon, issuer, mechanism, port):
    file = daemon.folder / "message.eml"
    file.write_bytes(b"From: maria@example.com\r\nTo: someone@one.test\r\nSubject: token\r\n\r\nHi\r\n")

    def curl(token):
        scheme = "smtps" if port == SUBMISSIONS else "smtp"
        return subprocess.run(
            [must_exist("curl"), "--silent", "--show-error", "--max-time", "30",
             "--url", f"{scheme}://{daemon.address}:{port}", "--ssl-reqd", "--cacert", daemon.certificate.chain,
             "--user", USER, "--oauth2-bearer", token, "--login-options", f"AUTH={mechanism}", "--mail-from", USER,
             "--mail-rcpt", "someone@one.test", "--upload-file", file], capture_output=True, timeout=60)

    result = curl(issuer.mint())
    assert result.returncode == 0, result.stderr
    # 67: "Login denied".
    assert curl(issuer.mint(bad="expired")).returncode == 67
    listed = run_slimtad("queue", "list", "--json", "--config", daemon.configuration)
    assert len(json.loads(listed.stdout)) == 1
    daemon.wait_for_events(login=USER)


def test_rotation(daemon, issuer):
    old = issuer.mint()
    assert login(daemon, old)[0] == 235
    issuer.rotate(keep=True)
    new = issuer.mint()
    # Known by its name, and the old one is there yet; without a name nobody knows which is meant.
    assert [login(daemon, token)[0] for token in (new, old)] == [235, 235]
    assert login(daemon, issuer.mint(bad="nokid"))[0] == 535
    assert issuer.count("/jwks") == 2
    for _ in range(5):
        assert login(daemon, issuer.mint(bad="kid"))[0] == 535
    assert issuer.count("/jwks") == 2


@pytest.mark.parametrize("mode", ["down", "slow", "html"])
def test_keys_that_cannot_be_had(make_daemon, issuer, mode):
    """454 and no 334: a client that is told 535 asks for the password, and people type it in."""
    issuer.mode(jwks=mode)
    slimtad = make_daemon().start()
    assert login(slimtad, issuer.mint()) == (454, None)
    with session(slimtad) as client:
        client.login("tester", "open sesame, please")
    slimtad.wait_for_log("keys of the OAuth issuer cannot be had")
    issuer.mode(jwks="ok")

    def is_back():
        return login(slimtad, issuer.mint())[0] == 235

    wait_until(is_back, 20, "keys")
    issuer.mode(jwks=mode)
    # What was fetched holds; of a name that it does not have nobody knows whose fault that is.
    assert login(slimtad, issuer.mint())[0] == 235
    assert login(slimtad, issuer.mint(bad="kid"))[0] == 454


def test_a_reload_while_the_issuer_is_away(daemon, issuer):
    """What it has said holds on, as it would without a reload; and what is new is fetched once it is back."""
    token = issuer.mint()
    assert login(daemon, token)[0] == 235
    issuer.mode(jwks="down")
    asked = issuer.count("/jwks")
    daemon.reload()
    daemon.wait_for_log("keys of the OAuth issuer cannot be had")
    assert issuer.count("/jwks") > asked
    assert login(daemon, token)[0] == 235
    # By other rules the same keys.
    daemon.change(auth={"oauth": by_keys(issuer, audience="other")})
    daemon.reload()
    assert login(daemon, token)[0] == 535


def test_a_reload_while_introspection_is_away(make_daemon, issuer):
    slimtad = make_daemon(lambda slimtad: by_introspection(issuer, slimtad, claim="sub")).start()
    token = issuer.mint()
    assert login(slimtad, token, user="maria")[0] == 235
    issuer.mode(introspect="down")
    slimtad.reload()
    assert login(slimtad, token, user="maria")[0] == 235
    assert login(slimtad, issuer.mint(), user="maria") == (454, None)


def test_one_name_for_two_keys(make_daemon, issuer):
    issuer.mode(jwks="dup")
    slimtad = make_daemon().start()
    assert login(slimtad, issuer.mint())[0] == 235
    assert login(slimtad, issuer.mint("ES256"))[0] == 235


def test_a_file(make_daemon, issuer, place):
    keys = place.path / "keys.json"
    keys.write_text(issuer.ask("/jwks"))
    slimtad = make_daemon(lambda _: {
        "issuer": issuer.name_of_it, "audience": ["other", "slimtad"], "jwks_file": str(keys), "claim": "sub",
        "algorithms": ["ES256"]}).start()
    assert login(slimtad, issuer.mint("ES256"), user="maria")[0] == 235
    assert login(slimtad, issuer.mint("RS256"), user="maria")[0] == 535
    issuer.rotate()
    keys.write_text(issuer.ask("/jwks"))
    assert login(slimtad, issuer.mint("ES256"), user="maria")[0] == 535
    slimtad.reload()
    wait_until(lambda: login(slimtad, issuer.mint("ES256"), user="maria")[0] == 235, 20, "the new keys")


def test_what_a_token_must_say(make_daemon, issuer):
    """Scopes, all of them; its type; and that the issuer has verified the address."""
    slimtad = make_daemon(lambda _: by_keys(issuer, required_scope=["smtp", "send"], strict_typ=True)).start()
    both = {"scope": "send openid smtp"}
    assert login(slimtad, issuer.mint(claims=both)) == (235, None)
    assert login(slimtad, issuer.mint(claims={"scope": None, "scp": ["smtp", "send"]})) == (235, None)
    for scope in ("openid smtp", "send", "", "smtpsend"):
        code, said = login(slimtad, issuer.mint(claims={"scope": scope}))
        assert code == 535 and said["scope"] == "smtp send", scope
    assert login(slimtad, issuer.mint(claims=both, header={"typ": "application/at+jwt"}))[0] == 235
    for typ in ("JWT", None):
        assert login(slimtad, issuer.mint(claims=both, header={"typ": typ}))[0] == 535, typ
    unverified = [{"email_verified": value} for value in (False, None, "yes")]
    for claims in unverified:
        assert login(slimtad, issuer.mint(claims=both | claims))[0] == 535, claims
    slimtad.change(auth={"oauth": by_keys(issuer, unverified_email=True)})
    slimtad.reload()
    for claims in unverified:
        assert login(slimtad, issuer.mint(claims=claims, header={"typ": "JWT"}))[0] == 235, claims


def test_as_whom_a_token_may_send(make_daemon, issuer):
    """As its own address, or as what senders_claim has and nothing else: who has nothing there may send as nobody."""
    slimtad = make_daemon(lambda _: by_keys(issuer, claim="preferred_username", senders_claim="addresses")).start()

    def may_send(claims, *addresses):
        with session(slimtad) as client:
            initial_response = initial("OAUTHBEARER", issuer.mint(claims=claims), "maria")
            assert client.docmd("AUTH", f"OAUTHBEARER {initial_response}")[0] == 235
            codes = []
            for address in addresses:
                codes.append(client.mail(address)[0])
                client.rset()
            return codes

    asked = ("team@example.com", "maria@example.com", "maria@mail.slimtad.test")
    assert may_send({"addresses": ["team@example.com"]}, *asked) == [250, 553, 553]
    assert may_send({"addresses": "maria@example.com"}, *asked) == [553, 250, 553]
    for nothing in ({}, {"addresses": []}, {"addresses": ["", "*", "@example.com"]}, {"addresses": [5]}):
        assert may_send(nothing, *asked) == [553] * 3, nothing


def test_an_issuer_with_a_certificate_of_its_own(make_daemon, place):
    issuer = Issuer(
        place, "issuer with TLS", certificate=make_certificate(place.folder("issuer-tls"), "localhost")).start()
    slimtad = make_daemon(lambda _: by_keys(issuer)).start()
    assert login(slimtad, issuer.mint()) == (454, None)
    slimtad.change(auth={"oauth": by_keys(issuer, trust_file=str(issuer.certificate.chain))})
    slimtad.reload()
    wait_until(lambda: login(slimtad, issuer.mint())[0] == 235, 20, "keys")


def test_introspection(make_daemon, issuer):
    slimtad = make_daemon(lambda slimtad: by_introspection(issuer, slimtad, claim="sub")).start()
    token, other = issuer.mint(), issuer.mint()
    assert [login(slimtad, token, user="maria")[0] for _ in range(5)] == [235] * 5
    assert issuer.count("/introspect") == 1
    issuer.revoke(other)
    code, said = login(slimtad, other, user="maria")
    assert code == 535 and said["status"] == "invalid_token"
    assert login(slimtad, other, user="maria")[0] == 535
    assert issuer.count("/introspect") == 2
    for bad in ("expired", "audience", "noaud", "noexp"):
        assert login(slimtad, issuer.mint(bad=bad), user="maria")[0] == 535, bad
    # The issuer takes our own login for wrong, or is not there: nothing that a client could mend.
    for mode in ("401", "down", "html", "slow"):
        issuer.mode(introspect=mode)
        assert login(slimtad, issuer.mint(), user="maria") == (454, None), mode
    assert login(slimtad, token, user="maria")[0] == 235
    issuer.mode(introspect="ok")
    assert login(slimtad, issuer.mint(), user="maria")[0] == 235


def test_http(make_daemon, issuer):
    slimtad = make_daemon()
    slimtad.settings["edge"].append(edge(slimtad, auth="required", plaintext_auth=True))
    slimtad.change()
    slimtad.start()

    def post(token):
        with HTTP(slimtad.address, PORT) as client:
            return client.ask(request(
                b"Subject: token\r\n\r\nHi\r\n", envelope(sender=USER), Authorization=f"Bearer {token}"))

    assert post(issuer.mint()).status == 200
    refused = post(issuer.mint(bad="expired"))
    assert refused.status == 401 and 'error="invalid_token"' in refused.fields["www-authenticate"]
    issuer.mode(jwks="down")
    assert post(issuer.mint(bad="kid")).status == 503


# slimtad check


def check(slimtad):
    return run_slimtad("check", "--config", slimtad.configuration)


def test_check(make_daemon, issuer):
    slimtad = make_daemon().add_user()
    result = check(slimtad)
    assert result.returncode == OK and f"3 keys from {issuer.keys}" in result.stdout, result.stdout + result.stderr
    for mode, text in (
            ("down", "it answers 503"), ("html", "not JSON at octet 0: no value"),
            ("empty", "none of its 2 keys can check RS256, PS256, ES256 or EdDSA"),
            ("big", "its answer is longer than 512 KiB")):
        issuer.mode(jwks=mode)
        result = check(slimtad)
        assert result.returncode == OK, result.stderr
        assert "auth.oauth.jwks_url: " in result.stderr and text in result.stderr, result.stderr


def test_check_finds_nobody(make_daemon, issuer):
    slimtad = make_daemon(lambda _: by_keys(issuer, jwks_url="http://127.0.0.1:1/jwks")).add_user()
    result = check(slimtad)
    assert result.returncode == OK and "http://127.0.0.1:1/jwks: no connection" in result.stderr, result.stderr


def test_check_of_a_file_that_is_no_json(make_daemon, issuer, place):
    keys = place.path / "keys.json"
    keys.write_text("<html>")
    slimtad = make_daemon(lambda _: {
        "issuer": issuer.name_of_it, "audience": "slimtad", "jwks_file": str(keys)}).add_user()
    result = check(slimtad)
    assert result.returncode == CONFIGURATION and f"{keys}: not JSON at octet 0" in result.stderr, result.stderr


def test_no_audience(make_daemon, issuer):
    slimtad = make_daemon(lambda _: {"issuer": issuer.name_of_it, "jwks_url": issuer.keys})
    result = check(slimtad)
    assert result.returncode == CONFIGURATION and "auth.oauth.audience: missing" in result.stderr, result.stderr

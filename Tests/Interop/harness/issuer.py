"""An issuer of OAuth tokens: the laboratory's (shared/rigs/credentials/jwks.py), which nobody here wrote for slimtad alone."""

import base64
import json
import sys
import urllib.error
import urllib.request

from .machine import ROOT, Program, free_ports

RIG = ROOT.parent / "shared" / "rigs" / "credentials" / "jwks.py"


class Issuer(Program):
    """The issuer on a port of 127.0.0.1, with TLS if it has a certificate: new keys at each start."""

    def __init__(self, place, name="issuer", certificate=None):
        super().__init__(place, name)
        (self.port,) = free_ports(1)
        self.certificate = certificate
        self.name_of_it = f"{'https' if certificate else 'http'}://localhost:{self.port}"
        self.keys = f"{self.name_of_it}/jwks"
        self.introspection = f"{self.name_of_it}/introspect"

    def start(self):
        tls = ["--tls", self.certificate.chain, self.certificate.key] if self.certificate else []
        self.launch([sys.executable, RIG, "serve", self.port, *tls])
        self.wait_until(lambda: '"issuer"' in self.log, what="the issuer")
        return self

    def ask(self, path, body=None):
        """What it answers, as text."""
        data = None if body is None else body.encode()
        context = self.certificate.trusting_context() if self.certificate else None
        url = f"{self.name_of_it}{path}".replace("localhost", "127.0.0.1")
        try:
            return urllib.request.urlopen(url, data, timeout=20, context=context).read().decode()
        except urllib.error.URLError as error:
            raise AssertionError(f"the issuer: {error}\n{self.log}") from error

    def mint(self, alg="RS256", bad="", claims=None, header=None):
        """A token; `email` is verified, since the login is of that claim."""
        return self.ask("/mint", json.dumps({
            "alg": alg, "bad": bad, "claims": {"email_verified": True} | (claims or {}), "header": header or {}}))

    def mode(self, **modes):
        self.ask("/mode", json.dumps(modes))

    def rotate(self, keep=False):
        self.ask("/rotate", json.dumps({"keep": keep}))

    def revoke(self, token):
        self.ask("/revoke", token)

    def count(self, path):
        """How often it was asked for `path`."""
        return json.loads(self.ask("/count")).get(path, 0)


def initial(mechanism, token, user=""):
    """A client's initial response, in base64."""
    text = {
        "OAUTHBEARER": f"n,{'a=' + user if user else ''},\x01host=mail.slimtad.test\x01port=587\x01auth=Bearer {token}\x01\x01",
        "XOAUTH2": f"user={user}\x01auth=Bearer {token}\x01\x01",
    }[mechanism]
    return base64.b64encode(text.encode()).decode()

"""The JSON interface of an HTTP edge, spoken by requests: messages, their states, and problems."""

import requests

from .http import PORT

# A message that needs no more.
SHORT = {"from": "Alice <alice@origin.test>", "to": "bob@one.test", "subject": "Grüße", "text": "Hällo\n"}


class API:
    """The interface of a daemon, as a login or as nobody."""

    def __init__(self, slimtad, auth=None):
        self.base = f"http://{slimtad.address}:{PORT}"
        self.session = requests.Session()
        self.session.auth = auth

    def post(self, message, **headers):
        return self.session.post(
            f"{self.base}/v1/messages", json=message, headers={k.replace("_", "-"): v for k, v in headers.items()}, timeout=30)

    def get(self, path):
        return self.session.get(self.base + path, timeout=30)

    def state(self, identifier):
        return self.get(f"/v1/messages/{identifier}")

    def states(self, identifier):
        """What became of each recipient."""
        return {one["address"]: one["state"] for one in self.state(identifier).json()["recipients"]}


def problem(response, status):
    """A problem of RFC 9457 with this status; it has a line's end and nothing of the request."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    found = response.json()
    assert found["status"] == status and found["type"].startswith("/problems/") and found["title"] and found["detail"]
    return found


def pointers(response):
    return [error["pointer"] for error in problem(response, 400)["errors"]]

"""A provider with OAuth2: a token endpoint with refresh tokens that can be used once, and a submission host that takes the
tokens. In threads of this process.
"""

import asyncio
import base64
import http.server
import json
import re
import ssl
import threading
import time
import urllib.parse

from .machine import MX_PORT, new_address


class Provider:
    """Tokens live for `life` seconds. `refresh`: the refresh token that is good now; each use of it makes another.

    The host answers a bad token with 334 and JSON, as Google's does, or with 535 at once, as Microsoft's does (`at_once`).
    `on_login` is called with a good token before the host says so.
    """

    def __init__(self, place, certificate, life=3600, at_once=False):
        self.address = new_address()
        self.certificate = certificate
        self.life = life
        self.at_once = at_once
        self.refresh = "refresh-0"
        self.fault = None  # (status, JSON) of the endpoint
        self.requests, self.logins, self.messages = [], [], []
        self.tokens = {}
        self.on_login = lambda token: None
        place.programs.append(self)

    @property
    def endpoint(self):
        return f"https://{self.address}:{self._server.server_port}/token"

    @property
    def host(self):
        return f"{self.address}:{MX_PORT}"

    def start(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate.chain, self.certificate.key)
        provider = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                status, body = provider.answer({name: values[0] for name, values in form.items()})
                octets = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(octets)))
                self.end_headers()
                self.wfile.write(octets)

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer((self.address, 0), Handler)
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._context = context
        asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self.session, self.address, MX_PORT), self._loop).result(10)
        return self

    def kill(self):
        self._server.shutdown()
        self._server.server_close()
        self._loop.call_soon_threadsafe(self._loop.stop)

    def answer(self, form):
        self.requests.append(form)
        if self.fault:
            return self.fault
        body = {"access_token": f"token-{len(self.requests)}", "token_type": "Bearer", "expires_in": self.life}
        if form["grant_type"] == "refresh_token":
            if form["refresh_token"] != self.refresh:
                return 400, {"error": "invalid_grant", "error_description": "the refresh token was used"}
            self.refresh = body["refresh_token"] = f"refresh-{len(self.requests)}"
        self.tokens[body["access_token"]] = time.time() + self.life
        return 200, body

    async def session(self, reader, writer):
        login, recipients = None, []

        async def say(text):
            writer.write(text.encode() + b"\r\n")
            await writer.drain()

        await say("220 provider.test")
        is_encrypted = False
        while line := (await reader.readline()).decode().strip():
            verb, _, rest = line.partition(" ")
            if verb == "EHLO":
                await say("250-provider.test\r\n250 AUTH LOGIN XOAUTH2 OAUTHBEARER" if is_encrypted
                          else "250-provider.test\r\n250 STARTTLS")
            elif verb == "STARTTLS":
                await say("220 go")
                await writer.start_tls(self._context)
                is_encrypted = True
            elif verb == "AUTH":
                login = await self.authenticate(rest, reader, say)
            elif verb == "QUIT":
                await say("221 bye")
                break
            elif not login:
                await say("530 5.7.0 authentication required")
            elif verb == "RCPT":
                recipients.append(rest)
                await say("250 ok")
            elif verb == "DATA":
                await say("354 go")
                self.messages.append((login, recipients, await reader.readuntil(b"\r\n.\r\n")))
                recipients = []
                await say("250 2.0.0 taken")
            else:
                await say("250 ok")
        writer.close()

    async def authenticate(self, rest, reader, say):
        mechanism, _, response = rest.partition(" ")
        text = base64.b64decode(response).decode()
        form = {"XOAUTH2": r"user=([^\x01]+)\x01auth=Bearer ([^\x01]+)\x01\x01",
                "OAUTHBEARER": r"n,a=([^,]+),\x01host=[^\x01]+\x01port=\d+\x01auth=Bearer ([^\x01]+)\x01\x01"}[mechanism]
        found = re.fullmatch(form, text)
        user, token = found.groups() if found else (None, None)
        is_good = self.tokens.get(token, 0) > time.time()
        answer = None
        if not is_good and not self.at_once:
            await say("334 " + base64.b64encode(b'{"status":"401","schemes":"bearer"}').decode())
            answer = (await reader.readline()).decode().strip()
        self.logins.append({"mechanism": mechanism, "user": user, "token": token, "is_good": is_good, "answer": answer})
        if is_good:
            self.on_login(token)
        await say("235 2.7.0 accepted" if is_good else "535 5.7.8 not accepted")
        return user if is_good else None

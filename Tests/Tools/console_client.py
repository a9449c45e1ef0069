"""A browser's side of the console, without the browser: cookies are kept, forms carry the token of the last page."""

from __future__ import annotations

import http.client
import re
import ssl
import urllib.parse
from dataclasses import dataclass

# Of the password, with the least that the node takes: tests sign in often.
PASSWORD = "correct horse"
PASSWORD_HASH = "$scrypt$ln=14,r=8,p=1$AAECAwQFBgcICQoLDA0ODw$JbN2hANm9NOw4h5BRHZnbjzQ6Jr0QwNWojTOC2WgIbU"
USERS = [
    {"name": "vera", "role": "viewer", "password_hash": PASSWORD_HASH},
    {"name": "otto", "role": "operator", "password_hash": PASSWORD_HASH},
]
PAGE = {"Accept": "text/html"}


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def location(self) -> str | None:
        return self.headers["Location"]


class ConsoleClient:
    """One connection, kept open; redirects are not followed."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None, source: str | None = None):
        options = {"timeout": 20, "source_address": (source, 0) if source else None}
        if context:
            self.connection = http.client.HTTPSConnection("localhost", port, context=context, **options)
        else:
            self.connection = http.client.HTTPConnection("127.0.0.1", port, **options)
        self.cookies: dict[str, str] = {}
        self.token = ""

    def close(self) -> None:
        self.connection.close()

    def request(self, method: str, path: str, headers: dict[str, str], body: str | None = None) -> Answer:
        if self.cookies:
            headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())} | headers
        answer = self._exchange(method, path, headers, body)
        for line in answer.headers.get_all("Set-Cookie") or []:
            name, _, value = line.partition(";")[0].partition("=")
            self.cookies[name] = value
            if "Max-Age=0" in line:
                del self.cookies[name]
        if found := re.search(rb'<meta name="csrf-token" content="([^"]*)"', answer.body):
            self.token = found[1].decode()
        return answer

    def _exchange(self, method: str, path: str, headers: dict[str, str], body: str | None) -> Answer:
        """Once more where the server closed a connection that was idle, as browsers do."""
        was_open = self.connection.sock is not None
        try:
            self.connection.request(method, path, body, headers)
            response = self.connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        except (http.client.HTTPException, OSError):
            self.connection.close()
            if not was_open:
                raise
        return self._exchange(method, path, headers, body)

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, PAGE | headers)

    def post(self, path: str, form: dict[str, str] | None = None, **headers: str) -> Answer:
        """`form` replaces the token where it has one."""
        body = urllib.parse.urlencode({"csrf": self.token} | (form or {}))
        return self.request(
            "POST", path, PAGE | {"Content-Type": "application/x-www-form-urlencoded"} | headers, body
        )

    def sign_in(self, user: str, password: str = PASSWORD, next_path: str = "/") -> Answer:
        self.get("/sign-in")
        return self.post("/sign-in", {"user": user, "password": password, "next": next_path})

    @property
    def is_signed_in(self) -> bool:
        """The sign-in page sends on whoever is."""
        return self.get("/sign-in").status == 303

"""Whom the server answers: its own host names, pages of its own origin, and whoever has the token."""

import asyncio

import httpx
import pytest
from starlette.datastructures import Headers

from mmpt.inference.server.api import build_app
from mmpt.inference.server.guard import Guard
from mmpt.inference.server.hosts import LOCAL, PRIVATE, stranger
from mmpt.inference.server.limits import Limits
from mmpt.inference.server.shares import Share

from .live import serving


@pytest.mark.parametrize(
    ("host", "origin", "allowed", "said"),
    [
        ("127.0.0.1:8000", None, LOCAL, ""),
        ("LOCALHOST:8000", None, LOCAL, ""),
        ("[::1]:8000", "http://[::1]:8000", LOCAL, ""),
        ("evil.example:8000", None, LOCAL, "host name"),
        ("127.0.0.1.evil.example", None, LOCAL, "host name"),
        ("", None, LOCAL, "host name"),
        ("127.0.0.1:8000", "http://evil.example", LOCAL, "another origin"),
        ("127.0.0.1:8000", "http://127.0.0.1:3000", LOCAL, "another origin"),
        ("127.0.0.1:8000", "null", LOCAL, "another origin"),
        ("127.0.0.1:8000", "http://127.0.0.1:8000", LOCAL, ""),
        ("10.0.0.7:8000", None, (PRIVATE,), ""),
        ("[2001:db8::1]:8000", None, (PRIVATE,), ""),
        ("box", None, (PRIVATE,), ""),
        ("box.local:8000", None, (PRIVATE,), ""),
        ("10.0.0.7.evil.example", None, (PRIVATE,), "host name"),
        ("evil.example", "http://evil.example", (PRIVATE,), "host name"),
        ("evil.example", "https://evil.example", ("*",), ""),
    ],
)
def test_whose_pages_may_talk_to_it(host, origin, allowed, said):
    headers = Headers({"host": host, **({"origin": origin} if origin else {})})
    found = stranger(headers, allowed)
    assert said in found if said else found == ""


def test_a_page_of_another_origin_is_refused_however_it_asks(server):
    address, service = server
    evil = {"Origin": "http://evil.example"}
    for kind in ("text/plain", "application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        answer = httpx.post(f"{address}/v1/chat/completions", content=b"{}", headers={"Content-Type": kind, **evil})
        assert answer.status_code == 403 and "access-control-allow-origin" not in answer.headers
    asks = {**evil, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    assert httpx.options(f"{address}/v1/chat/completions", headers=asks).status_code == 403
    own = httpx.get(f"{address}/v1/models", headers={"Origin": address})
    assert own.status_code == 200 and service.taken == 0


@pytest.mark.parametrize(("host", "origin"), [("evil.example", None), ("127.0.0.1", "http://evil.example")])
def test_a_websocket_of_a_stranger_is_closed_before_it_is_open(host, origin):
    """Browsers ask nobody before they open one to another origin."""
    sent, headers = [], [(b"host", host.encode())] + ([(b"origin", origin.encode())] if origin else [])

    async def app(*_):
        raise AssertionError("it came through")

    async def send(message):
        sent.append(message)

    scope = {"type": "websocket", "path": "/", "headers": headers, "client": ("127.0.0.1", 1)}
    scope |= {"extensions": {"websocket.http.response": {}}}
    asyncio.run(Guard(app, Limits(), LOCAL, Share(100))(scope, None, send))  # pyright: ignore[reportArgumentType]
    assert [one["type"] for one in sent] == ["websocket.http.response.start", "websocket.http.response.body"]
    assert sent[0]["status"] == (403 if origin else 400)


def test_every_route_but_the_page_and_its_health_wants_the_token(model):
    app = build_app(model, "tiny", Limits(), "secret")
    found = {(path, method.upper()) for path, methods in app.openapi()["paths"].items() for method in methods}
    assert ("/v1/chat/completions", "POST") in found
    wrong = ("Bearer secreT", "Bearer secre", "Bearer", "Bearer secret1", "secret", "Basic secret")
    with serving(model, Limits(), "secret") as (address, _):
        for path, method in sorted(found):
            if path in ("/", "/favicon.ico", "/health", "/metrics", "/static/{name}"):
                continue
            path = path.replace("{number}", "tiny")
            twice = [("Authorization", "Bearer secret"), ("authorization", "Bearer x")]
            for headers in ([], twice, *[[("Authorization", one)] for one in wrong]):
                answer = httpx.request(method, f"{address}{path}", headers=headers, params={"token": "secret"})
                assert answer.status_code == 401, (path, method, headers)
                assert "secret" not in answer.text
        assert httpx.get(f"{address}/v1/models", headers={"Authorization": "Bearer secret"}).status_code == 200

"""What a notebook shows: bars and pictures, nothing of the server's that could run, never an exception."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest

from regard_client import AsyncClient, Client, Input

ADDRESS = "http://regard.test"
EVIL = "<script>alert(1)</script>\"'&"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(2)</script></svg>'


class Reader(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def pictures(self) -> list[tuple[str, bytes]]:
        """Media type and content of each picture."""
        sources = [attributes["src"] or "" for tag, attributes in self.tags if tag == "img"]
        matches = [re.fullmatch(r"data:([a-z+/]+);base64,(.*)", source) for source in sources]
        assert all(matches)
        return [(match[1], base64.b64decode(match[2], validate=True)) for match in matches if match]

    @property
    def bars(self) -> list[int]:
        """Their widths in pixels."""
        styles = [attributes.get("style") or "" for tag, attributes in self.tags if tag == "div"]
        return [int(match[1]) for style in styles if (match := re.match(r"width:(\d+)px", style))]


def a_map(name: str, **links: str) -> dict[str, Any]:
    document = {"name": name, "kind": "tokens", "description": EVIL, "shape": [1], "axes": ["token"]}
    return {**document, "layers": 0, "heads": "mean", "target": EVIL, "range": [0, 1], "links": links}


class Fake:
    """A server that says whatever it is told to; `drawn` are the paths that were asked of it."""

    def __init__(self, *maps: dict[str, Any], scores: tuple[float, ...] = (0.75, 0.25)) -> None:
        top = [{"label": EVIL, "score": score} for score in scores]
        self.answer = {"id": "i", "model": EVIL, "version": "1", "timing": {"total_ms": 1.5}}
        self.answer["predictions"] = [
            {"label": EVIL, "score": scores[0], "top": top, "input": {"kind": "none"}, "maps": maps}
        ]
        self.drawn: list[str] = []
        self.draw: Callable[[httpx.Request], httpx.Response] = lambda _: httpx.Response(200, content=SVG)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert request.url.host == "regard.test"
        if request.method == "POST":
            return httpx.Response(200, json=self.answer)
        self.drawn.append(request.url.raw_path.decode())
        return self.draw(request)

    def client(self, **options: Any) -> Client:
        return Client(ADDRESS, transport=httpx.MockTransport(self), **options)


def test_the_pictures_of_the_application_are_shown(client: Client, inputs: Mapping[str, Input]) -> None:
    for model, shown in (
        ("code-language", {"rollout": "image/svg+xml", "cls": "image/svg+xml"}),
        ("digit-in-clutter", {"cam": "image/png", "channel": "image/png"}),
        ("digit-motion", {"rollout": "image/webp", "message": "image/png"}),
    ):
        prediction = client.predict(model, inputs[model], maps=list(shown), top_k=3)
        page = Reader(prediction._repr_html_())
        assert [media for media, _ in page.pictures] == list(shown.values())
        assert sum(len(body) for _, body in page.pictures) < 500_000
        assert len(page.bars) == 3
        for name in (*shown, *(one.label for one in prediction.top)):
            assert name in page.text
        for name, (_, body) in zip(shown, page.pictures, strict=True):
            if name == "rollout" and model == "code-language":
                assert body == prediction.map(name).svg()


def test_bars_are_as_long_as_their_scores() -> None:
    with Fake(scores=(0.75, 0.25)).client() as client:
        assert Reader(client.predict("m", "x")._repr_html_()).bars == [120, 40]
    with Fake(scores=(8.0, -4.0)).client() as client:
        assert Reader(client.predict("m", "x")._repr_html_()).bars == [160, 80]


def test_nothing_of_the_server_becomes_markup() -> None:
    fake = Fake(a_map(EVIL, svg="/v1/a.svg"), a_map("plain", png="/v1/a.png"))
    fake.draw = lambda request: (
        httpx.Response(200, content=SVG)
        if request.url.path.endswith("svg")
        else httpx.Response(404, text=EVIL)
    )
    with fake.client() as client:
        html = client.predict("m", "x")._repr_html_()
    assert "<script" not in html
    assert "<svg" not in html
    page = Reader(html)
    assert {tag for tag, _ in page.tags} <= {"div", "table", "tr", "td", "figure", "figcaption", "img"}
    assert all(set(attributes) <= {"style", "src", "alt"} for _, attributes in page.tags)
    assert page.pictures == [("image/svg+xml", SVG)]
    assert page.text.count(EVIL) >= 4


def test_the_media_type_is_ours_and_not_the_servers() -> None:
    fake = Fake(a_map("one", svg="/v1/a.svg"))
    fake.draw = lambda _: httpx.Response(200, content=SVG, headers={"content-type": 'text/html" onload="x'})
    with fake.client() as client:
        assert [media for media, _ in Reader(client.predict("m", "x")._repr_html_()).pictures] == [
            "image/svg+xml"
        ]


@pytest.mark.parametrize(
    "link",
    [
        "http://elsewhere.test/v1/a.svg",
        "//elsewhere.test/v1/a.svg",
        "file:///etc/passwd",
        "/metrics",
        "v1/../metrics",
        "/v1/../metrics",
        "http://[::1",
        "/v1/\x00",
        "javascript:alert(1)",
    ],
)
def test_a_link_that_leads_elsewhere_is_not_followed(link: str) -> None:
    fake = Fake(a_map("one", svg=link))
    with fake.client(api_key="secret") as client:
        page = Reader(client.predict("m", "x")._repr_html_())
    assert fake.drawn == []
    assert "not shown" in page.text


def test_a_picture_is_fetched_once() -> None:
    fake = Fake(a_map("one", svg="/v1/a.svg?layer=0"))
    with fake.client() as client:
        prediction = client.predict("m", "x")
        assert fake.drawn == []
        assert prediction._repr_html_() == prediction._repr_html_()
    assert fake.drawn == ["/v1/a.svg?layer=0"]


def test_what_could_not_be_fetched_is_said_and_tried_again() -> None:
    fake = Fake(a_map("one", svg="/v1/a.svg"), a_map("two", npy="/v1/b.npy"), a_map("three", png="/v1/c.png"))
    fake.draw = lambda _: httpx.Response(410, text="gone")
    with fake.client() as client:
        prediction = client.predict("m", "x")
        page = Reader(prediction._repr_html_())
        assert (page.text.count("not shown: 410"), page.text.count("not shown: there is no drawing")) == (
            2,
            1,
        )
        fake.draw = lambda _: httpx.Response(200, content=SVG)
        assert len(Reader(prediction._repr_html_()).pictures) == 2


def test_a_notebook_does_not_wait_for_a_server_that_is_full_or_gone() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    for draw in (lambda _: httpx.Response(503, headers={"retry-after": "1"}), refuse):
        fake = Fake(*(a_map(name, svg="/v1/a.svg") for name in "abc"))
        fake.draw = draw
        with fake.client() as client:
            page = Reader(client.predict("m", "x")._repr_html_())
        assert len(fake.drawn) == 1
        assert page.text.count("not shown") == 3


def test_a_closed_client_is_said() -> None:
    with Fake(a_map("one", svg="/v1/a.svg")).client() as client:
        prediction = client.predict("m", "x")
    assert "closed" in Reader(prediction._repr_html_()).text


def test_the_asynchronous_prediction_shows_what_was_loaded() -> None:
    fake = Fake(a_map("one", svg="/v1/a.svg"))

    async def ask() -> None:
        async with AsyncClient(ADDRESS, transport=httpx.MockTransport(fake)) as client:
            prediction = await client.predict("m", Path(__file__))
            assert "await prediction.load_drawings()" in Reader(prediction._repr_html_()).text
            assert fake.drawn == []
            await prediction.load_drawings()
            assert Reader(prediction._repr_html_()).pictures == [("image/svg+xml", SVG)]

    asyncio.run(asyncio.wait_for(ask(), 30))

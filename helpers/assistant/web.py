"""A page in the browser in front of the assistant: a question, the answer with its sources, a stop button.

Starlette serves it on this machine's loopback. The page's files are three, beside this one; nothing is fetched from
elsewhere, and a policy (Content-Security-Policy) forbids the browser to. What is asked needs the key of the run, since
any program here, and any page in a browser, can reach a port of loopback; the names that may be asked under are
checked too, so that no other page's name can be pointed at it (DNS rebinding). Nothing that is asked is kept or logged.

An answer comes as lines of JSON: pieces while the model writes, a draft that is not yet checked, and at last the
sentences that stand in a passage. Who goes, or presses stop, ends the model's work.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import AsyncGenerator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from helpers.assistant.answers import MOST_NEW_TOKENS, READER, SourcedAnswer, near_enough, passages_prompt, with_sources
from helpers.assistant.index import DocumentIndex, Hit
from helpers.assistant.questions import PASSAGES, SEARCHED_BY
from helpers.backends.remote import Key
from helpers.chat import Chat
from helpers.errors import CourseError
from helpers.server.answers import Refused
from helpers.server.lines import LineStream, bounded_body

PAGE = Path(__file__).with_name("page")
MOST_BODY_BYTES, BODY_WAIT_SECONDS = 16 * 1024, 10.0
#: How long a look at the folder for changed documents holds.
FRESH_SECONDS = 5.0
POLICY = "default-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
HEADERS = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
HEADERS |= {"Referrer-Policy": "no-referrer"}


class Asked(BaseModel):
    """What the page sends."""

    question: str = Field(min_length=1, max_length=500)


class AssistantPage:
    """The routes, over one index and one chat: questions are answered one after the other."""

    def __init__(self, index: DocumentIndex, chat: Chat, key: Key) -> None:
        self.index, self.chat, self._key = index, chat, key.reveal()
        self._answering = asyncio.Lock()
        self._looked = time.monotonic()

    def app(self) -> Starlette:
        """The ASGI application."""
        names = {"/": "index.html", "/page.js": "page.js", "/page.css": "page.css"}
        routes = [Route(path, self._file(name)) for path, name in names.items()]
        routes += [Route("/about", self.about), Route("/ask", self.ask, methods=["POST"])]
        hosts = Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
        return Starlette(routes=routes, middleware=[hosts])

    async def about(self, request: Request) -> Response:
        """The folder's name, how much was read of it, and what was left out."""
        if not self._knows(request):
            return _refusal(401, "The key is not known.")
        documents = len({passage.source for passage in self.index.passages})
        told = {"folder": self.index.folder.name, "documents": documents, "passages": len(self.index.passages)}
        left_out = [str(one) for one in self.index.left_out]
        return JSONResponse(told | {"model": self.chat.card.title, "left_out": left_out}, headers=HEADERS)

    async def ask(self, request: Request) -> Response:
        """The answer to a question, as lines of JSON."""
        if not self._knows(request):
            return _refusal(401, "The key is not known.")
        try:
            data = await bounded_body(request, MOST_BODY_BYTES, BODY_WAIT_SECONDS)
            question = Asked.model_validate_json(data).question
        except Refused as refused:
            return _refusal(refused.status, str(refused))
        except ValidationError:
            return _refusal(400, "A question is a text of 1 to 500 characters.")
        return LineStream(self._events(question), ExitStack(), HEADERS)

    def _knows(self, request: Request) -> bool:
        _, _, given = request.headers.get("authorization", "").partition(" ")
        return hmac.compare_digest(given.encode(), self._key.encode())

    async def _events(self, question: str) -> AsyncGenerator[bytes]:
        async with self._answering:
            try:
                hits = await asyncio.to_thread(self._found, question)
                if not near_enough(hits):
                    yield _line(_told(SourcedAnswer((), "nothing near"), hits))
                    return
                chat = self.chat.another(system=READER, temperature=0.0)
                asked = passages_prompt(question, hits)
                stream = await asyncio.to_thread(chat.stream, asked, max_new_tokens=MOST_NEW_TOKENS)
                try:
                    while (piece := await asyncio.to_thread(next, stream, None)) is not None:
                        yield _line({"piece": piece})
                finally:
                    stream.cancel()  # nobody reads it any more, unless it is whole
                assert stream.reply is not None
                cut = stream.reply.finish_reason == "length"
                yield _line(_told(with_sources(stream.reply.text, question, hits, cut=cut), hits))
            except CourseError as error:
                yield _line({"problem": str(error)})

    def _found(self, question: str) -> list[Hit]:
        """What is found, in the documents as they are now."""
        if time.monotonic() - self._looked > FRESH_SECONDS:
            self.index.refresh()
            self._looked = time.monotonic()
        return self.index.search(question, PASSAGES, SEARCHED_BY)

    def _file(self, name: str) -> Any:
        async def send(_: Request) -> Response:
            return FileResponse(PAGE / name, headers=HEADERS)

        return send


def _told(given: SourcedAnswer, hits: list[Hit]) -> dict[str, Any]:
    passages = [hit.passage for hit in hits]
    sentences = [
        {"text": one.text, "source": passages.index(one.source), "place": one.source.place} for one in given.sentences
    ]
    shown = [{"place": passage.place, "text": passage.text} for passage in passages]
    return {"text": given.text, "gate": given.gate, "sentences": sentences, "passages": shown}


def _line(told: dict[str, Any]) -> bytes:
    return json.dumps(told, ensure_ascii=False).encode() + b"\n"


def _refusal(status: int, why: str) -> Response:
    return JSONResponse({"error": why}, status, headers=HEADERS)

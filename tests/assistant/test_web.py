"""The page answers with its sources, to who has the key alone, and stops when it is told; in a browser too."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.testclient import TestClient

from helpers import catalog
from helpers.assistant import web
from helpers.assistant.documents import LeftOut, Passage
from helpers.assistant.index import Hit
from helpers.assistant.web import AssistantPage
from helpers.backends.remote import Key
from helpers.errors import Unreachable
from helpers.records import Chunk
from helpers.server.lines import loopback_socket, served
from talk import Scripted, fresh, scripted
from waiting import until

KEY = Key("a-key-that-nobody-guesses")
PERIOD = Passage("You can return an order within 30 days of <b>delivery</b>.", "returns.md", "Returns")


class Shelf:
    """An index that finds the one passage, unless it is asked about the moon."""

    folder, passages, left_out = Path("shop"), (PERIOD,), (LeftOut("broken.pdf", "it is damaged."),)
    looked = 0

    def search(self, question: str, most: int, by: str) -> list[Hit]:
        return [Hit(PERIOD, 0.03, 1, 1, 0.1 if "moon" in question else 0.8)]

    def refresh(self) -> None:
        self.looked += 1


def app_of(*texts: str, shelf: Any = None) -> Any:
    return AssistantPage(shelf or Shelf(), scripted(*texts), KEY).app()


def client_of(*texts: str, **options: Any) -> TestClient:
    headers = {"Authorization": f"Bearer {KEY.reveal()}"}
    return TestClient(app_of(*texts, **options), base_url="http://127.0.0.1", headers=headers)


def asked(client: TestClient, question: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in client.post("/ask", json={"question": question}).text.splitlines()]


def test_an_answer_ends_with_its_sentences_and_their_passages():
    *pieces, last = asked(client_of("Within 30 days of delivery."), "How long?")
    assert "".join(one["piece"] for one in pieces) == "Within 30 days of delivery."
    assert last["sentences"] == [{"text": "Within 30 days of delivery.", "source": 0, "place": PERIOD.place}]
    assert last["passages"][0]["text"] == PERIOD.text


def test_what_stands_nowhere_and_what_is_far_end_in_i_do_not_know():
    client = client_of("Within 90 days.")
    assert asked(client, "How long?")[-1]["gate"] == "ungrounded"
    assert [one["gate"] for one in asked(client, "Who walked on the moon?")] == ["nothing near"]


def test_without_the_key_nothing_is_told():
    with TestClient(app_of("…"), base_url="http://127.0.0.1") as client:
        assert client.get("/about").status_code == 401
        assert client.post("/ask", json={"question": "How long?"}).status_code == 401
        assert client.get("/about", headers={"Authorization": "Bearer another"}).status_code == 401


def test_under_another_name_nothing_is_served():
    assert client_of("…").get("/", headers={"Host": "evil.example"}).status_code == 400


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"{}", 400), (b"no json", 400), (json.dumps({"question": "x" * 501}).encode(), 400), (b"x" * 20_000, 413)],
)
def test_a_body_is_bounded_and_checked(body, status):
    assert client_of("…").post("/ask", content=body).status_code == status


def test_the_page_may_load_nothing_from_elsewhere():
    answer = client_of("…").get("/")
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'self'")
    sources = [(web.PAGE / name).read_text(encoding="utf-8") for name in ("index.html", "page.js", "page.css")]
    assert not any("//" in text.replace("// ", "") for text in sources)
    assert "innerHTML" not in sources[1]


def test_what_goes_wrong_at_the_model_is_a_sentence():
    class Gone(Scripted):
        def generate(self, prompt, sampling):
            raise Unreachable("The server is gone.")
            yield

    page = AssistantPage(Shelf(), fresh(Gone("…"), catalog.card("smollm2-135m")), KEY)
    with TestClient(page.app(), base_url="http://127.0.0.1") as client:
        client.headers["Authorization"] = f"Bearer {KEY.reveal()}"
        assert asked(client, "How long?") == [{"problem": "The server is gone."}]


def test_the_folder_is_looked_at_again_after_some_seconds(monkeypatch):
    shelf = Shelf()
    client = client_of("Within 30 days of delivery.", shelf=shelf)
    asked(client, "How long?")
    monkeypatch.setattr(web, "FRESH_SECONDS", -1)
    asked(client, "How long?")
    assert shelf.looked == 1


class Slow(Scripted):
    """Writes a word each fiftieth of a second until it is told to stop."""

    stopped = False

    def generate(self, prompt, sampling):
        for number in range(1, 500):
            if self.stopped:
                return
            time.sleep(0.02)
            yield Chunk("word ", number, None, 1)

    def cancel(self) -> None:
        self.stopped = True


@pytest.fixture
def page_of() -> Iterator[Callable[[Any], str]]:
    """A function that serves a chat until the test ends, and gives its page's address."""
    with ExitStack() as stack:

        def serve(chat: Any) -> str:
            sock = loopback_socket(0)
            app = AssistantPage(Shelf(), chat, KEY).app()
            stack.enter_context(served(uvicorn.Config(app, log_level="critical", ws="none"), sock))
            return f"http://127.0.0.1:{sock.getsockname()[1]}/#{KEY.reveal()}"

        yield serve


@pytest.mark.engine
def test_in_a_browser_the_keyboard_alone_asks_reads_the_source_and_asks_again(page_of, new_page):
    page, elsewhere = new_page(), list[str]()
    address = page_of(scripted("Within 30 days of delivery."))
    page.on("request", lambda one: elsewhere.append(one.url) if "127.0.0.1" not in one.url else None)
    page.goto(address)
    page.locator("#about", has_text="1 documents").wait_for()
    assert "broken.pdf: it is damaged." in page.text_content("#about")
    assert page.evaluate("document.activeElement.id") == "question"
    page.keyboard.type("How long?")
    page.keyboard.press("Enter")
    page.wait_for_selector(".told[data-state=answered]")
    assert page.text_content(".told details div") == PERIOD.text  # its <b> is text
    page.focus(".told a")
    page.keyboard.press("Enter")
    assert page.evaluate("document.querySelector('details').open")
    assert page.url == address
    assert [one for one in elsewhere if not one.startswith("data:")] == []


@pytest.mark.engine
@pytest.mark.parametrize("how", ["button", "Escape"])
def test_in_a_browser_stop_ends_the_models_work(page_of, new_page, how):
    page, engine = new_page(), Slow("…")
    page.goto(page_of(fresh(engine, catalog.card("smollm2-135m"))))
    page.fill("#question", "How long?")
    page.keyboard.press("Enter")
    page.wait_for_selector(".told[data-state=draft]")
    page.click("#stop") if how == "button" else page.keyboard.press("Escape")
    page.wait_for_selector(".told[data-state=stopped]")
    assert until(lambda: engine.stopped)
    assert page.is_enabled("#send")


@pytest.mark.engine
def test_in_a_browser_a_page_without_its_key_says_so(page_of, new_page):
    page = new_page()
    page.goto(page_of(scripted("…")).partition("#")[0])
    page.locator("#about", has_text="without its key").wait_for()

"""The service in front of a model server, with a Hub and a server that are stand-ins."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from helpers.classroom.folder import Chosen
from helpers.classroom.gateway import ACCESS, Gateway

USERS = {
    "anna's": {"name": "anna", "kind": "user", "admin": False, "scopes": [ACCESS]},
    "bo's": {"name": "bo", "kind": "user", "admin": False, "scopes": [ACCESS]},
    "narrow": {"name": "bo", "kind": "user", "admin": False, "scopes": ["self"]},
    "a service's": {"name": "culler", "kind": "service", "scopes": [ACCESS]},
    "owner": {"name": "instructor", "kind": "user", "admin": True, "scopes": [ACCESS]},
}
USAGE = {"prompt_tokens": 7, "completion_tokens": 3}


class HubStandIn:
    async def user_for_token(self, token: str, *, sync: bool) -> dict[str, Any] | None:
        return USERS.get(token)

    def check_scopes(self, wanted: set[str], user: dict[str, Any]) -> bool:
        return bool(wanted & set(user["scopes"]))


class Behind:
    """The server behind: keeps what it was asked, answers with what it cost."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.keys: set[str] = set()

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content or b"{}")
        self.asked.append((request.url.path, body))
        self.keys.add(request.headers["authorization"])
        if request.url.path.endswith("/props"):
            return httpx2.Response(404, json={})
        if not body.get("stream"):
            return httpx2.Response(200, json={"choices": [{}], "usage": USAGE})
        events = [{"choices": [{"delta": {"content": "Hi"}}]}, {"choices": [], "usage": USAGE}]
        text = "".join(f"data: {json.dumps(one)}\n\n" for one in events) + "data: [DONE]\n\n"
        return httpx2.Response(200, text=text, headers={"Content-Type": "text/event-stream"})


@pytest.fixture
def behind() -> Behind:
    return Behind()


@pytest.fixture
def client(behind: Behind) -> Iterator[TestClient]:
    chosen = Chosen(per_minute=3, at_once=2, most_new_tokens=64, backend="http://elsewhere/v1")
    gateway = Gateway(HubStandIn(), "http://elsewhere/v1", "the server's", chosen)
    gateway.http = httpx2.AsyncClient(
        base_url="http://elsewhere/v1",
        headers=gateway.http.headers,
        transport=httpx2.MockTransport(behind),
    )
    with TestClient(gateway.app(), raise_server_exceptions=False) as one:
        yield one


def ask(client: TestClient, token: str = "anna's", path: str = "chat/completions", **body: Any) -> Any:
    return client.post(f"/services/slm/v1/{path}", json=body, headers={"Authorization": f"Bearer {token}"})


def usage(client: TestClient, token: str) -> Any:
    return client.get("/services/slm/v1/usage", headers={"Authorization": f"Bearer {token}"}).json()


@pytest.mark.parametrize(("token", "status"), [("nobody's", 401), ("", 401), ("a service's", 401), ("narrow", 403)])
def test_who_may_not_ask_is_refused_and_nothing_is_handed_on(
    client: TestClient, behind: Behind, token: str, status: int
) -> None:
    assert ask(client, token).status_code == status
    assert behind.asked == []


def test_the_server_behind_sees_its_own_key_and_never_a_token(client: TestClient, behind: Behind) -> None:
    ask(client)
    assert behind.keys == {"Bearer the server's"}


def test_a_person_has_limits_of_their_own(client: TestClient) -> None:
    assert [ask(client).status_code for _ in range(4)] == [200, 200, 200, 429]
    assert ask(client, "bo's").status_code == 200


def test_a_refusal_says_when_to_come_again(client: TestClient) -> None:
    late = [ask(client) for _ in range(4)][-1]
    assert 0 < int(late.headers["Retry-After"]) <= 60


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("chat/completions", "max_tokens"),
        ("chat/completions", "max_completion_tokens"),
        ("responses", "max_output_tokens"),
    ],
)
def test_no_answer_is_longer_than_the_class_allows(client: TestClient, behind: Behind, path: str, name: str) -> None:
    ask(client, path=path, **{name: 5000})
    ask(client, path=path, **{name: 5})
    assert [body[name] for _, body in behind.asked] == [64, 5]


def test_each_sees_their_own_usage_and_the_instructor_all(client: TestClient) -> None:
    ask(client)
    ask(client, "bo's", stream=True)
    assert list(usage(client, "anna's")) == ["anna"]
    told = usage(client, "owner")
    assert {name: told[name]["tokens_out"] for name in ("anna", "bo")} == {"anna": 3, "bo": 3}


def test_a_streams_cost_is_told_to_who_asked_for_it_alone(client: TestClient) -> None:
    told = ask(client, stream=True, stream_options={"include_usage": True}).text
    assert '"usage"' not in ask(client, stream=True).text
    assert '"usage"' in told
    assert told.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("path", ["../admin", "metrics", "models/../usage/x", "load_lora_adapter"])
def test_no_other_route_of_the_server_behind_is_reached(client: TestClient, behind: Behind, path: str) -> None:
    assert ask(client, path=path).status_code == 404
    assert behind.asked == []


def test_a_server_that_is_not_the_courses_shows_no_properties(client: TestClient) -> None:
    answer = client.get("/services/slm/v1/props", headers={"Authorization": "Bearer anna's"})
    assert (answer.status_code, answer.json()) == (200, {})


@pytest.mark.parametrize("data", [b"{", b"[]", b"1" * 5_000_000])
def test_what_is_no_request_ends_here(client: TestClient, behind: Behind, data: bytes) -> None:
    answer = client.post("/services/slm/v1/completions", content=data, headers={"Authorization": "Bearer anna's"})
    assert answer.status_code in (400, 413)
    assert behind.asked == []


def test_no_server_behind_is_a_sentence() -> None:
    gateway = Gateway(HubStandIn(), "http://127.0.0.1:9/v1", "", Chosen())
    with TestClient(gateway.app(), raise_server_exceptions=False) as one:
        answer = ask(one)
    assert answer.status_code == 503
    assert "does not answer" in answer.json()["error"]["message"]

"""What official clients send, recorded from them: each request is answered by the server's routes.

`clients.json` holds the bodies that openai 3.3, azure-ai-inference 1.0.0b9, langchain-openai 1.7.4, instructor 1.17,
pydantic-ai 2.38 and llm 0.36 sent, each in the forms that it has for words, calls, results and JSON. Besides, the
server is asked what its own description allows, nightly for longer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from helpers.backends.remote import Key
from helpers.models import embeddings
from helpers.server import Guest
from pretend_engine import PretendEngine, gate

RECORDED = json.loads(Path(__file__).with_name("clients.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    server = gate(PretendEngine(), guests=(Guest("you", Key("a-key-of-the-owner")),))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embeddings, "embed", lambda texts: np.zeros((len(texts), 384), dtype=np.float32))
        patch.setattr(embeddings, "tokens_read", len)
        headers = {"Authorization": "Bearer a-key-of-the-owner"}
        with TestClient(server.app(), headers=headers, raise_server_exceptions=False) as one:
            yield one


@pytest.mark.parametrize("sent", RECORDED, ids=lambda sent: sent["client"])
def test_what_a_client_sends_is_answered(client: TestClient, sent: dict[str, Any]) -> None:
    answer = client.post(sent["path"], json=sent["body"])
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("examples", [10, pytest.param(400, marks=pytest.mark.nightly)])
def test_what_the_description_allows_is_answered_or_refused(client: TestClient, examples: int) -> None:
    # Two seconds of import, which every process of the tests would pay above.
    import schemathesis
    from hypothesis import HealthCheck, given, settings

    schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
    operations = [found.ok() for found in schema.get_all_operations()]
    assert {operation.path for operation in operations} >= {"/v1/chat/completions", "/v1/responses"}
    for operation in operations:

        @settings(
            max_examples=examples,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def answered(case: Any) -> None:
            answer = client.post(case.path, json=case.body)
            assert answer.status_code < 500, answer.text
            assert answer.status_code < 400 or answer.json()["error"].keys() == {"message", "type", "param", "code"}

        answered()

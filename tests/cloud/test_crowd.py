"""The measures of many users, on a server of the tests' own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from helpers.cloud import crowd
from helpers.errors import InvalidInput
from helpers.server import Server, serve


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve(slots=2, context=256, latency_seconds=0.2) as one:
        yield one


def test_a_crowd_gets_every_token_it_asked_for(server: Server) -> None:
    row = crowd.crowd(server.route, 2, requests=3, new_tokens=4)
    assert (row["at_once"], row["requests"]) == (2, 3)
    assert 0 < row["latency_p50_seconds"] <= row["latency_p90_seconds"]
    assert row["tokens_per_second"] > 0


def test_an_empty_crowd_is_refused(server: Server) -> None:
    with pytest.raises(InvalidInput):
        crowd.crowd(server.route, 0)


def test_injected_latency_is_found_outside_the_models_own_time(server: Server) -> None:
    timing = crowd.ask(server.route, "Hi", new_tokens=2)
    assert timing.other_seconds >= 0.2
    assert crowd.round_trip(server.route, repeats=1).median >= 0.2

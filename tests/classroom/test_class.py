"""A class on this machine's loopback: a Hub, three people, one model server. `course.py test --class`, and nightly."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hub_here import SMALL, HubHere, Visitor, prepared, until

from helpers.backends.remote import Key, Route
from helpers.classroom.capacity import Load, simulate
from helpers.classroom.folder import INSTRUCTOR, is_root

pytestmark = [pytest.mark.nightly, pytest.mark.skipif(sys.platform != "linux", reason="a class's Hub runs on Linux")]
PEOPLE = ["anna", "bo", "chen"]
ASK = """
from helpers import open_chat
with open_chat("smollm2-135m", provider="class") as chat:
    print(chat.say("What is the capital of Sweden?", max_new_tokens=20))
"""
NOTE = {"type": "file", "format": "text", "content": "my work"}


@pytest.fixture(scope="module")
def hub() -> Iterator[HubHere]:
    with prepared(PEOPLE) as here:
        yield here


@pytest.fixture(scope="module")
def people(hub: HubHere) -> dict[str, Visitor]:
    visitors = {name: Visitor(hub, name) for name in PEOPLE}
    for one in visitors.values():
        assert one.log_in()
        one.start()
    return visitors


def server_of(visitor: Visitor) -> psutil.Process:
    """The process of a person's server."""
    lines = {one: " ".join(one.info["cmdline"] or ()) for one in psutil.process_iter(["cmdline", "environ"])}
    home = str(visitor.hub.folder.at("homes", visitor.name))
    return next(one for one, line in lines.items() if "singleuser" in line and one.environ().get("HOME") == home)


def test_nobody_gets_in_without_a_pin_of_the_class(hub: HubHere) -> None:
    assert not Visitor(hub, "anna").log_in("00000000")
    assert not Visitor(hub, "mallory").log_in(hub.pins()["anna"])


@pytest.mark.parametrize("name", PEOPLE)
def test_each_opens_notebook_00_and_asks_the_shared_server_without_typing_a_key(
    people: dict[str, Visitor], name: str
) -> None:
    one = people[name]
    assert one.server("GET", "api/contents/course/notebooks/00_start.ipynb").status_code == 200
    assert "Stockholm" in one.run(ASK)


def test_what_was_used_is_told_to_each_and_to_the_instructor_by_person(
    hub: HubHere, people: dict[str, Visitor]
) -> None:
    for one in people.values():
        one.run(ASK)
    look = "import os, httpx2; print(httpx2.get(os.environ['SLM_CLASS_ADDRESS'] + '/usage', headers={'Authorization': "
    look += "'Bearer ' + os.environ['JUPYTERHUB_API_TOKEN']}).text)"
    assert '"anna"' in (said := people["anna"].run(look))
    assert '"bo"' not in said
    instructor = Visitor(hub, INSTRUCTOR)
    assert instructor.log_in()
    token = instructor.api("POST", f"users/{INSTRUCTOR}/tokens", json={}).json()["token"]
    address = f"{hub.address}/services/slm/v1/usage"
    assert set(instructor.http.get(address, headers={"Authorization": f"Bearer {token}"}).json()) >= set(PEOPLE)


@pytest.mark.skipif(not is_root(), reason="only root can give each person a user of their own")
def test_the_system_keeps_people_out_of_each_others_homes_and_of_the_classs_secrets(people: dict[str, Visitor]) -> None:
    folder = people["anna"].hub.folder
    for place in (folder.at("homes", "bo"), folder.at("hub"), folder.at("homes")):
        assert "PermissionError" in people["anna"].run(f"import os; os.listdir({str(place)!r})")
    for secret in ("seed", "people.csv", "pins.csv"):
        assert "PermissionError" in people["anna"].run(f"open({str(folder.at(secret))!r})")
    other = server_of(people["bo"]).pid
    assert "PermissionError" in people["anna"].run(f"open('/proc/{other}/environ').read()")
    assert "PermissionError" in people["anna"].run(f"import os; os.kill({other}, 9)")


@pytest.mark.skipif(not is_root(), reason="only root can write what everybody reads")
def test_what_everybody_reads_nobody_writes(people: dict[str, Visitor]) -> None:
    shared = people["anna"].hub.folder.at("shared")
    for place in (shared, shared / "models", Path(__file__).parents[2], Path(sys.prefix)):
        assert "PermissionError" in people["anna"].run(f"open({str(place / 'x')!r}, 'w')")


def test_neither_the_server_nor_the_tokens_of_another_are_reached(people: dict[str, Visitor]) -> None:
    anna = people["anna"]
    assert anna.server("GET", "api/contents", owner="bo").status_code in (403, 404)
    assert anna.api("GET", "users/bo/tokens").status_code in (403, 404)
    assert anna.api("POST", "users/bo/tokens", json={}).status_code in (403, 404)
    assert anna.api("DELETE", "users/bo/server").status_code in (403, 404)
    assert anna.api("GET", "users").status_code == 403


def test_a_server_that_was_killed_comes_back_with_the_work_in_place(people: dict[str, Visitor]) -> None:
    bo = people["bo"]
    assert bo.server("PUT", "api/contents/course/mine.txt", json=NOTE).status_code == 201
    server_of(bo).kill()
    assert until(lambda: not bo.is_running() or bo.api("DELETE", "users/bo/server"))
    assert until(lambda: not bo.is_running())
    bo.start()
    assert bo.server("GET", "api/contents/course/mine.txt").json()["content"] == "my work"


def test_a_hub_that_was_killed_knows_its_people_and_their_servers_run_on(
    hub: HubHere, people: dict[str, Visitor]
) -> None:
    before = server_of(people["chen"]).pid
    children = psutil.Process(hub.process.pid).children(recursive=True)
    services = [one for one in children if "helpers." in " ".join(one.cmdline())]
    hub.kill()
    assert len(services) == 3  # the service, the model server, and what it computes with
    assert until(lambda: not [one for one in services if one.is_running() and one.status() != "zombie"])
    hub.start()
    assert people["chen"].is_running()
    assert server_of(people["chen"]).pid == before
    assert "Stockholm" in people["chen"].run(ASK)


def test_thirty_people_hold_their_limits_and_the_others_wait(hub: HubHere) -> None:
    instructor = Visitor(hub, INSTRUCTOR)
    assert instructor.log_in()
    names = [f"simulated{number}" for number in range(30)]
    instructor.api("POST", "users", json={"usernames": names})
    tokens = [instructor.api("POST", f"users/{name}/tokens", json={}).json()["token"] for name in names]
    routes = [Route("the class", f"{hub.address}/services/slm/v1", Key(token)) for token in tokens]
    asked = simulate(routes, SMALL, Load(30, think_seconds=8, prompt_tokens=20, new_tokens=8), seconds=40)
    counts = Counter(one.person for one in asked if one.status == 200)
    assert {one.status for one in asked} <= {200, 429}
    assert len(counts) == 30
    assert max(counts.values()) <= hub.folder.chosen.per_minute
    greedy = Load(1, think_seconds=0.01, prompt_tokens=1, new_tokens=1)
    late = simulate(routes[:1], SMALL, greedy, seconds=10)
    assert late[-1].status == 429


def test_no_pin_and_no_token_stands_in_the_log(hub: HubHere, people: dict[str, Visitor]) -> None:
    environments = [server_of(one).environ() for one in people.values()]
    secrets = {*hub.pins().values(), *(one["JUPYTERHUB_API_TOKEN"] for one in environments)}
    log = hub.log.read_text()
    assert [secret for secret in secrets if secret in log] == []


def test_an_idle_server_is_stopped_and_comes_back_with_the_work() -> None:
    with prepared(["anna"], idle_minutes=0.3) as here:
        anna = Visitor(here, "anna")
        assert anna.log_in()
        anna.start()
        assert anna.server("PUT", "api/contents/course/mine.txt", json=NOTE).status_code == 201
        assert until(lambda: not anna.is_running())
        anna.start()
        assert anna.server("GET", "api/contents/course/mine.txt").json()["content"] == "my work"


def test_all_end_with_the_hub() -> None:
    with prepared(["anna"]) as here:
        children = psutil.Process(here.process.pid).children(recursive=True)
        os.killpg(here.process.pid, signal.SIGINT)
        here.process.wait(60)
        assert until(lambda: not [one for one in children if one.is_running() and one.status() != "zombie"])

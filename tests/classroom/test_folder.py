from __future__ import annotations

import stat
from pathlib import Path

import pytest

from helpers.classroom.folder import FREE_TRIES, INSTRUCTOR, TEMPLATE, WAIT_SECONDS, Chosen, ClassFolder, Door
from helpers.errors import InvalidInput


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> ClassFolder:
    made = ClassFolder(tmp_path_factory.mktemp("class"))
    made.add(["Anna", "bo"])
    return made


def pins(folder: ClassFolder) -> dict[str, str]:
    return dict(line.split(",") for line in folder.at("pins.csv").read_text().splitlines())


def test_a_class_has_its_people_and_the_instructor_with_numbers_of_their_own(folder: ClassFolder) -> None:
    assert list(folder.people()) == [INSTRUCTOR, "anna", "bo"]
    assert len({one.uid for one in folder.people().values()}) == 3


def test_secrets_are_their_owners_alone_and_no_pin_is_kept(folder: ClassFolder) -> None:
    for name in ("people.csv", "pins.csv", "seed"):
        assert stat.S_IMODE(folder.at(name).stat().st_mode) == 0o600
    assert all(pin not in folder.at("people.csv").read_text() for pin in pins(folder).values())


def test_adding_later_changes_nobody_and_reuses_no_number(tmp_path: Path) -> None:
    folder = ClassFolder(tmp_path)
    folder.add(["anna"])
    before = folder.people()
    assert list(folder.add(["anna", "chen"])) == ["chen"]
    assert {name: folder.people()[name] for name in before} == before
    assert folder.people()["chen"].uid > max(one.uid for one in before.values())


@pytest.mark.parametrize("name", ["../anna", "a/b", "", "-x", "ä", "a" * 40])
def test_what_is_no_name_is_refused_before_anything_is_made(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be a name"):
        ClassFolder(tmp_path / "new").add([name])
    assert not (tmp_path / "new").exists()


def test_the_door_opens_to_the_right_pin_alone(folder: ClassFolder) -> None:
    door, right = Door(folder), pins(folder)
    assert door.opens("anna", right["anna"])
    assert not door.opens("anna", right["bo"])
    assert not door.opens("nobody", right["anna"])


def test_after_wrong_pins_even_the_right_one_waits(folder: ClassFolder) -> None:
    now = [0.0]
    door, right = Door(folder, lambda: now[0]), pins(folder)["bo"]
    assert not any(door.opens("bo", "0") for _ in range(FREE_TRIES))
    assert not door.opens("bo", right)
    now[0] = WAIT_SECONDS
    assert door.opens("bo", right)


def test_the_template_says_what_holds_without_it(tmp_path: Path) -> None:
    folder = ClassFolder(tmp_path)
    folder.at("class.toml").write_text(TEMPLATE)
    assert folder.chosen == Chosen()


@pytest.mark.parametrize("line", ["slot = 4", 'slots = "4"', "slots = ", "slots = true"])
def test_a_setting_that_cannot_be_is_refused_by_name(tmp_path: Path, line: str) -> None:
    (tmp_path / "class.toml").write_text(line)
    with pytest.raises(InvalidInput, match=r"slot|TOML"):
        _ = ClassFolder(tmp_path).chosen


def test_a_pseudonym_is_the_same_each_time_and_another_class_has_another(tmp_path: Path, folder: ClassFolder) -> None:
    other = ClassFolder(tmp_path)
    other.make()
    assert folder.pseudonym("anna") == ClassFolder(folder.path).pseudonym("anna") != other.pseudonym("anna")

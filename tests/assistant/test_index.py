"""The index holds whole documents whatever happens, notices what changed, and finds by words, meaning and both."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import apsw
import pytest

from helpers.assistant import index as module
from helpers.assistant.index import DocumentIndex, fused, open_index
from helpers.data import ROOT
from helpers.errors import DamagedFile, InvalidInput


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three documents, and an encoder that needs no model: a text's vector is where its letters are."""
    monkeypatch.setattr(module, "embed", letters)
    place = tmp_path / "docs"
    place.mkdir()
    for name, text in {"a.md": "# Returns\nThirty days.", "b.md": "Postage is five euros.", "c.txt": "Open."}.items():
        (place / name).write_text(text)
    return place


def letters(texts):
    import numpy as np

    rows = np.zeros((len(texts), module.DIMENSIONS), dtype=np.float32)
    for row, text in zip(rows, texts, strict=True):
        for letter in text.lower():
            row[ord(letter) % module.DIMENSIONS] += 1
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_a_passage_is_found_by_each_way_with_its_ranks(folder, tmp_path):
    with open_index(folder, tmp_path / "i.sqlite") as index:
        for by in ("words", "meaning", "both"):
            assert index.search("postage, five euros", 1, by)[0].passage.source == "b.md"
        (hit,) = index.search("postage", 1)
        assert (hit.words, hit.meaning) == (1, 1)
        assert hit.score == pytest.approx(2 / 61)


def test_fusion_puts_first_what_stands_high_in_both_lists():
    assert [*fused([[1, 2, 3], [3, 2, 4]])][:2] == [3, 2]
    assert fused([[1], [1]])[1] == pytest.approx(2 / 61)


def test_what_changed_is_read_again_and_what_is_gone_forgotten(folder, tmp_path):
    with open_index(folder, tmp_path / "i.sqlite") as index:
        before = (folder / "a.md").stat()
        (folder / "a.md").write_text("# Returns\nTwelve days.")
        os.utime(folder / "a.md", ns=(before.st_atime_ns, before.st_mtime_ns))  # neither size nor time tell
        (folder / "b.md").unlink()
        changes = index.refresh()
        assert (changes.read, changes.forgotten) == (("a.md",), ("b.md",))
        assert [one.text for one in index.passages] == ["Twelve days.", "Open."]
        assert index.search("postage", 5, "words") == []
        assert len(index.search("postage", 5, "meaning")) == 2
        assert index.refresh().read == ()


def test_an_index_is_there_when_it_is_opened_again(folder, tmp_path, monkeypatch):
    open_index(folder, tmp_path / "i.sqlite").close()
    monkeypatch.setattr(module, "read_document", None)  # nothing is read a second time
    with open_index(folder, tmp_path / "i.sqlite") as index:
        assert len(index.passages) == 3


def test_a_broken_document_is_named_and_the_others_are_found(folder, tmp_path):
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7")
    for _ in range(2):  # the second time it is known
        with open_index(folder, tmp_path / "i.sqlite") as index:
            assert [one.source for one in index.left_out] == ["broken.pdf"]
            assert len(index.passages) == 3


def test_an_index_of_another_version_is_made_anew(folder, tmp_path):
    open_index(folder, tmp_path / "i.sqlite").close()
    with apsw.Connection(str(tmp_path / "i.sqlite")) as file:
        file.pragma("user_version", 99)
        file.execute("UPDATE passages SET text = 'old'")
    with open_index(folder, tmp_path / "i.sqlite") as index:
        assert index.passages[0].text == "Thirty days."


def test_no_other_file_is_taken_for_an_index(folder, tmp_path):
    (tmp_path / "letter.sqlite").write_text("Dear Nora, " * 100)
    with pytest.raises(DamagedFile):
        DocumentIndex(folder, tmp_path / "letter.sqlite")
    with apsw.Connection(str(tmp_path / "own.sqlite")) as file:
        file.execute("CREATE TABLE documents (mine)")
    with pytest.raises(InvalidInput, match="no index"):
        DocumentIndex(folder, tmp_path / "own.sqlite")
    assert "Dear Nora" in (tmp_path / "letter.sqlite").read_text()


def test_two_threads_search_while_a_third_refreshes(folder, tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    with open_index(folder, tmp_path / "i.sqlite") as index, ThreadPoolExecutor(3) as pool:
        searches = [pool.submit(index.search, "five euros", 1) for _ in range(20)]
        pool.submit(index.refresh).result()
        assert {one.result()[0].passage.source for one in searches} == {"b.md"}


INDEXING = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
sys.path.insert(0, sys.argv[1] + "/tests/assistant")
from test_index import letters
from helpers.assistant import index
index.embed = letters
index.open_index(Path(sys.argv[2]), Path(sys.argv[3]), progress=lambda name: print(name, flush=True))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX's")
def test_a_kill_at_any_moment_loses_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "embed", letters)
    folder, file = tmp_path / "docs", tmp_path / "i.sqlite"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number:02}.md").write_text("\n".join(f"# Part {part}\nText {number}." for part in range(40)))
    whole = 0
    for kill_after in (1, 9, 17):
        command = [sys.executable, "-c", INDEXING, str(ROOT), str(folder), str(file)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for _ in range(kill_after):
                process.stdout.readline()
            time.sleep(0.003 * kill_after)  # anywhere in a transaction
            process.send_signal(signal.SIGKILL)
        with DocumentIndex(folder, file) as index:
            counts = index._rows("SELECT count(*) FROM passages GROUP BY document")
            vectors = index._rows("SELECT count(*) FROM vectors")[0][0]
        assert all(count == 40 for (count,) in counts)  # each document whole or not there
        assert vectors == 40 * len(counts)
        assert len(counts) >= max(whole, 1 if kill_after > 1 else 0)  # and none that was there is gone
        whole = len(counts)
    assert whole < 60
    with open_index(folder, file) as index:
        assert len(index.passages) == 60 * 40

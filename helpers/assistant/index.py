"""An index of a folder's documents in one file: searched by words, by meaning, or by both.

    with open_index(SHOP) as index:
        index.search("Can I send it back?", most=3)

The file is a SQLite database, in which sqlite-vec keeps a vector for each passage and finds the nearest ones. A
document enters with its passages and vectors in one transaction, so a kill at any moment leaves each document whole or
not yet there, and the next `refresh` goes on. What changed is told by SHA-256, since clocks and sizes can lie.

Words and meaning fail at different questions: words miss a synonym, and meaning misses the number of a part. Their two
rankings are joined by reciprocal rank fusion (Cormack, Clarke and Büttcher 2009, SIGIR): a passage gets 1 / (60 + rank)
from each list that it stands in. Ranks need no common scale, which BM25 and cosines do not have.

Why these two libraries: sqlite-vec has wheels of 0.2 MB for Windows, macOS and Linux and needs no compiler, and the
transactions of SQLite are what makes a file survive. Many Pythons (those of python.org on macOS, some of Linux) are
built without the loading of extensions, so the database is opened by apsw, which brings a SQLite of its own. A question
is compared with every vector: exact, and quick as long as the vectors fit into memory.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from helpers.assistant.documents import LeftOut, Passage, Unreadable, document_files, read_document
from helpers.errors import BackendUnavailable, DamagedFile, InvalidInput
from helpers.instruct.search import Fits, by_words
from helpers.models import embed, files

SearchWay = Literal["both", "words", "meaning"]
#: Raised when passages are cut or embedded in another way: an index made before is then made anew.
VERSION = 1
#: Written into the file, so that no other database is ever taken for an index.
MARK = 0x534C4D09
DIMENSIONS = 384
#: The constant of reciprocal rank fusion, as its authors chose it, and how far down a list it looks.
RRF_CONSTANT, DEEPEST = 60, 20
SCHEMA = f"""
CREATE TABLE documents (id INTEGER PRIMARY KEY, source TEXT UNIQUE NOT NULL, digest TEXT NOT NULL, problem TEXT);
CREATE TABLE passages (id INTEGER PRIMARY KEY, document INTEGER NOT NULL REFERENCES documents ON DELETE CASCADE,
                       text TEXT NOT NULL, heading TEXT NOT NULL, page INTEGER);
CREATE INDEX of_document ON passages (document);
CREATE VIRTUAL TABLE vectors USING vec0(embedding float[{DIMENSIONS}] distance_metric=cosine);
PRAGMA application_id = {MARK};
PRAGMA user_version = {VERSION};
"""


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that was found: its fused `score`, its rank by each way from 1 on (None: not found), and its cosine."""

    passage: Passage
    score: float
    words: int | None = None
    meaning: int | None = None
    cosine: float | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """What a refresh did, by the names of the documents."""

    read: tuple[str, ...] = ()
    forgotten: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = field(default=())

    def __str__(self) -> str:
        told = [f"{len(self.read)} read, {len(self.forgotten)} forgotten, {len(self.left_out)} left out"]
        return "\n".join([*told, *(f"  left out: {one}" for one in self.left_out)])


def fused(rankings: Iterable[Sequence[int]]) -> dict[int, float]:
    """The score of each item by reciprocal rank fusion, the best first.

    >>> [*fused([[7, 8], [8, 9]])]
    [8, 7, 9]
    """
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, item in enumerate(ranking, start=1):
            scores[item] = scores.get(item, 0.0) + 1 / (RRF_CONSTANT + rank)
    return dict(sorted(scores.items(), key=lambda scored: -scored[1]))


def open_index(
    folder: Path, file: Path | None = None, progress: Callable[[str], None] = lambda _: None
) -> DocumentIndex:
    """The index of a folder's documents, up to date. `file` is where it lies, by default in the course's cache."""
    index = DocumentIndex(folder, file)
    try:
        index.refresh(progress)
    except BaseException:
        index.close()
        raise
    return index


class DocumentIndex:
    """The documents of a folder, ready to be searched, from several threads too."""

    def __init__(self, folder: Path, file: Path | None = None) -> None:
        self.folder = folder.resolve()
        self.file = file or _file_of(self.folder)
        self._lock = threading.RLock()
        self._left_out: tuple[LeftOut, ...] = ()
        self._passages: dict[int, Passage] = {}
        self._by_words: Fits = lambda _: []
        # A question is looked up to answer it, and once more by whoever judges the answer.
        self._vector = lru_cache(maxsize=256)(lambda question: embed([question])[0].tobytes())
        self._database = _opened(self.file)
        self._load()

    @property
    def passages(self) -> tuple[Passage, ...]:
        """All passages, document by document."""
        return tuple(self._passages.values())

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """The files that the last refresh could not read, each with a sentence why."""
        return self._left_out

    def refresh(self, progress: Callable[[str], None] = lambda _: None) -> Changes:
        """Reads what is new or changed, forgets what is gone, and tells which. `progress` is told each name."""
        paths, passed_over = document_files(self.folder)
        with self._lock:
            known = {source: digest for source, digest in self._rows("SELECT source, digest FROM documents")}
            read, here = list[str](), set[str]()
            for path in paths:
                source = path.relative_to(self.folder).as_posix()
                here.add(source)
                if (digest := _digest(path)) != known.get(source):
                    progress(source)
                    self._enter(path, source, digest)
                    read.append(source)
            gone = [source for source in known if source not in here]
            with self._database:
                for source in gone:
                    self._forget(source)
            self._load()
            problems = self._rows("SELECT source, problem FROM documents WHERE problem IS NOT NULL ORDER BY source")
            self._left_out = (*passed_over, *(LeftOut(source, problem) for source, problem in problems))
        return Changes(tuple(read), tuple(gone), self._left_out)

    def search(self, question: str, most: int = 3, by: SearchWay = "both") -> list[Hit]:
        """The passages that fit the question best, the best first; none of a question without a word."""
        if by not in ("both", "words", "meaning"):
            raise InvalidInput(f"Nothing is searched by {by!r}.", "Choose words, meaning or both.")
        if not question.strip():
            return []
        with self._lock:
            nearest = {} if by == "words" else self._nearest(question)
            worded = [] if by == "meaning" else self._worded(question)
            scores = fused([worded, [*nearest]])
            ranks = [{item: rank for rank, item in enumerate(one, start=1)} for one in (worded, nearest)]
            return [
                Hit(self._passages[item], score, ranks[0].get(item), ranks[1].get(item), nearest.get(item))
                for item, score in [*scores.items()][:most]
            ]

    def close(self) -> None:
        """Closes the file; closing twice is harmless."""
        with self._lock:
            self._database.close()

    def __enter__(self) -> DocumentIndex:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"DocumentIndex({self.folder.name!r}, {len(self._passages)} passages)"

    def _worded(self, question: str) -> list[int]:
        fits = dict(zip(self._passages, self._by_words(question), strict=False))
        best = sorted(fits, key=lambda item: -fits[item])[:DEEPEST]
        return [item for item in best if fits[item] > 0]

    def _nearest(self, question: str) -> Mapping[int, float]:
        """The passages nearest in meaning with their cosines, the nearest first."""
        asked = "SELECT rowid, distance FROM vectors WHERE embedding MATCH ? AND k = ? ORDER BY distance"
        return {item: 1 - distance for item, distance in self._rows(asked, self._vector(question), DEEPEST)}

    def _enter(self, path: Path, source: str, digest: str) -> None:
        """A document's passages and vectors, in place of what was there: all of it or nothing."""
        problem, passages = None, list[Passage]()
        try:
            passages = read_document(path, source)
        except Unreadable as error:
            problem = error.message
        vectors: Iterable[Any] = embed([passage.searched for passage in passages]) if passages else ()
        with self._database:
            self._forget(source)
            self._rows("INSERT INTO documents (source, digest, problem) VALUES (?, ?, ?)", source, digest, problem)
            document = self._database.last_insert_rowid()
            for passage, vector in zip(passages, vectors, strict=True):
                told = (document, passage.text, passage.heading, passage.page)
                self._rows("INSERT INTO passages (document, text, heading, page) VALUES (?, ?, ?, ?)", *told)
                item = self._database.last_insert_rowid()
                self._rows("INSERT INTO vectors (rowid, embedding) VALUES (?, ?)", item, vector.tobytes())

    def _forget(self, source: str) -> None:
        of = "SELECT passages.id FROM passages JOIN documents ON document = documents.id WHERE source = ?"
        for (item,) in self._rows(of, source):
            self._rows("DELETE FROM vectors WHERE rowid = ?", item)
        self._rows("DELETE FROM documents WHERE source = ?", source)  # its passages go with it

    def _load(self) -> None:
        joined = "passages JOIN documents ON document = documents.id ORDER BY source, passages.id"
        found = self._rows(f"SELECT passages.id, text, source, heading, page FROM {joined}")
        self._passages = {item: Passage(text, source, heading, page) for item, text, source, heading, page in found}
        self._by_words = by_words([passage.searched for passage in self._passages.values()])

    def _rows(self, statement: str, *values: Any) -> list[Any]:
        return list(self._database.execute(statement, values))


def _file_of(folder: Path) -> Path:
    name = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    return files.home() / "assistant" / f"{name}.sqlite"


def _digest(path: Path) -> str:
    """What tells that a document is the one that was read; one that cannot be opened has a digest too."""
    with suppress(OSError):
        return files.sha256(path)
    return "unreadable"


def _opened(file: Path) -> Any:
    """The database, made if it is not there, and emptied if it was made by another version of this course."""
    import apsw

    file.parent.mkdir(parents=True, exist_ok=True)
    database = apsw.Connection(str(file))
    try:
        _prepare(database)
        with database:
            known = [name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
            if known and database.pragma("application_id") != MARK:
                raise InvalidInput(f"{file.name} is a database, and no index of documents.", "Name another file.")
            if not known or database.pragma("user_version") != VERSION:
                for name in ("vectors", "passages", "documents"):
                    database.execute(f"DROP TABLE IF EXISTS {name}")
                database.execute(SCHEMA)
    except (apsw.NotADBError, apsw.CorruptError) as error:
        database.close()
        raise DamagedFile(f"{file.name} is no index, or a damaged one.", "Delete it: it is made anew.") from error
    except BaseException:
        database.close()
        raise
    return database


def _prepare(database: Any) -> None:
    try:
        import sqlite_vec
    except ImportError:
        raise BackendUnavailable(
            "An index needs the package sqlite-vec, and it is not installed.",
            "pip install sqlite-vec; it has no wheel for Windows on ARM, where a Python for x64 takes that one.",
        ) from None
    database.transaction_mode = "IMMEDIATE"
    database.set_busy_timeout(30_000)  # another process may be writing
    database.enable_load_extension(True)
    database.load_extension(sqlite_vec.loadable_path())
    database.enable_load_extension(False)
    database.pragma("foreign_keys", True)

"""The corpus: what is collected, what goes, what is held out; and the tokenizer learnt from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.errors import InvalidInput
from helpers.making import bpe, corpus
from helpers.making.corpus import Document

PROSE = "The quick brown fox jumps over the lazy dog while seven wizards quietly brew a strong pot of black tea. "


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A standard library of two modules and one topic."""
    (tmp_path / "one.py").write_text(f'"""{PROSE}"""\n\n\ndef add(a, b):\n    return a + b\n', encoding="utf-8")
    (tmp_path / "two.py").write_text("def broken(:\n", encoding="utf-8")
    for alien in (tmp_path / "site-packages", tmp_path / "package" / "test"):
        alien.mkdir(parents=True)
        (alien / "alien.py").write_text("x = 1", encoding="utf-8")
    (tmp_path / "pydoc_data").mkdir()
    (tmp_path / "pydoc_data" / "topics.py").write_text(f'topics = {{"for": "{PROSE}"}}', encoding="utf-8")
    return tmp_path


def test_code_docstrings_and_topics_are_collected_apart(library: Path) -> None:
    found = {(d.kind, d.source): d.text for d in corpus.collect(library, sums=0)}
    assert set(found) == {("code", "one.py"), ("docstrings", "one.py"), ("reference", "topic for")}
    assert "return a + b" in found["code", "one.py"]
    assert "wizards" not in found["code", "one.py"]


def test_an_empty_folder_is_an_empty_corpus(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="the corpus is empty"):
        corpus.collect(tmp_path)


@pytest.fixture(scope="module")
def collected() -> list[Document]:
    return corpus.collect(sums=2000)


# Notebook 02 collects the same at each run.
@pytest.mark.nightly
def test_this_python_ships_several_megabytes(collected: list[Document]) -> None:
    rows = {row["kind"]: row["megabytes"] for row in corpus.kinds_table(collected)}
    assert set(rows) == {"code", "docstrings", "reference", "arithmetic"}
    assert sum(rows.values()) > 3


def test_sums_are_right_and_none_comes_twice_in_either_order() -> None:
    lines = [line for d in corpus.arithmetic(500) for line in d.text.split("\n")]
    sums = [tuple(int(part) for part in line.replace("+", "=").split("=")) for line in lines]
    assert all(a + b == c for a, b, c in sums)
    assert len({frozenset((a, b)) for a, b, _ in sums}) == len(sums) == 500


def test_more_sums_than_there_are_end_in_a_sentence() -> None:
    with pytest.raises(InvalidInput, match="different sums"):
        list(corpus.arithmetic(10**7))


@pytest.mark.fault("what people feed in")
def test_cleaning_composes_characters_and_drops_what_is_no_text() -> None:
    kept = corpus.clean([Document("code", "a", PROSE + "e\u0301\x07  \n\n\n\n"), Document("code", "b", "0x1, " * 50)])
    assert [d.source for d in kept] == ["a"]
    assert kept[0].text.endswith("é")


def test_a_copy_under_another_title_is_found() -> None:
    texts = {"a": PROSE, "b": f"Title. {PROSE}", "c": PROSE[::-1]}
    assert corpus.duplicates([Document("code", source, text) for source, text in texts.items()]) == {1}


@pytest.mark.fault("what people feed in")
@pytest.mark.parametrize(
    "text",
    [
        "敏捷的棕色狐狸跳过了那只懒惰的狗而七个巫师安静地煮着一壶浓浓的红茶",
        "素早い茶色の狐がのろまな犬を飛び越える間に魔法使いが茶を煎れる",
        "สุนัขจิ้งจอกสีน้ำตาลกระโดดข้ามสุนัขขี้เกียจ",
    ],
)
def test_a_copy_is_found_where_words_have_no_spaces(text: str) -> None:
    other = text[::-1]
    documents = [Document("code", name, part) for name, part in (("a", text), ("b", f"题 {text[2:]}"), ("c", other))]
    assert corpus.duplicates(documents) == {1}


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\u2028", "\u2029", "\x85", "\f", "\v", "\x1e"])
def test_lines_stay_apart_however_they_end(end: str) -> None:
    assert corpus.clean([Document("code", "a", f"{PROSE}{end}{PROSE}")])[0].text == f"{PROSE.strip()}\n{PROSE.strip()}"


def test_a_docstring_is_cut_out_of_a_module_with_a_form_feed(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(f'x = 1\n\f\ndef f():\n    """{PROSE}"""\n    return x\n', encoding="utf-8")
    code = corpus.collect(tmp_path, sums=0)[0].text
    assert "wizards" not in code
    assert "return x" in code


def test_the_splits_share_no_source_and_no_document() -> None:
    documents = [Document("code", f"module {n % 200}", f"{PROSE}{n}") for n in range(400)]
    kept, held = corpus.split(documents, 0.2)
    assert not {d.source for d in kept} & {d.source for d in held}
    assert sorted(map(str, kept + held)) == sorted(map(str, documents))
    assert 0.1 < len(held) / 400 < 0.3


@pytest.mark.nightly
def test_the_splits_of_the_real_corpus_share_few_passages(collected: list[Document]) -> None:
    documents = corpus.clean(collected[-1500:])
    copies = corpus.duplicates(documents)
    kept, held = corpus.split(d for n, d in enumerate(documents) if n not in copies)
    trained_on = {run for d in kept for run in corpus.shingles(d.text)}
    runs = [run for d in held for run in corpus.shingles(d.text)]
    assert sum(run in trained_on for run in runs) / len(runs) < 0.1


def test_a_split_needs_two_sides() -> None:
    for share in (0, 1, -0.5):
        with pytest.raises(InvalidInput):
            corpus.split([Document("code", "a", PROSE)], share)


# The tokenizer


def test_a_tokenizer_gives_back_every_text() -> None:
    tokenizer = bpe.train_tokenizer([PROSE * 3], 280)
    assert len(tokenizer) == 280
    for text in (PROSE, "åäö 你好\n\tx = 365", " two  spaces "):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_every_digit_is_a_token() -> None:
    tokenizer = bpe.train_tokenizer(["365 days " * 9], 258)
    assert len(tokenizer("365")["input_ids"]) == 3


def test_a_vocabulary_larger_than_the_text_allows_ends_in_a_sentence() -> None:
    with pytest.raises(InvalidInput, match="The text allows a vocabulary of"):
        bpe.train_tokenizer(["so short"], 5000)
    with pytest.raises(InvalidInput, match="256 bytes"):
        bpe.train_tokenizer([PROSE], 100)


def test_what_is_frequent_gets_short() -> None:
    tokenizer = bpe.train_tokenizer([PROSE * 3], 300)
    english, swedish = bpe.fertility({"own": tokenizer}, {"en": [PROSE], "sv": ["Räksmörgåsen är slut i dag."]})
    assert english["tokens_per_character"] < 0.8 < swedish["tokens_per_character"]


def test_there_are_two_sentences_or_more_in_each_of_the_23_languages() -> None:
    found = bpe.languages()
    assert len(found) == 23
    assert {"English", "Swedish", "Chinese", "Ukrainian"} <= set(found)
    assert min(map(len, found.values())) >= 2
    assert len({s for sentences in found.values() for s in sentences}) == 69

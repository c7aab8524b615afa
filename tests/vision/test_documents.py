"""Documents with known contents, and what harms them on the way to a reader."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
from PIL import Image

from helpers import plots
from helpers.errors import InvalidInput
from helpers.vision import documents

every_kind = pytest.mark.parametrize("make", documents.MAKERS.values(), ids=documents.MAKERS)


@every_kind
def test_a_seed_decides_the_picture_and_the_contents(make):
    one, same, other = make(3), make(3), make(4)
    assert one.image.tobytes() == same.image.tobytes()
    assert one.questions == same.questions
    assert one.cells != other.cells


@every_kind
def test_the_theme_of_a_notebook_does_not_change_the_picture(make):
    with matplotlib.rc_context():
        plots.use_theme()
        themed = make(3).image.tobytes()
    assert themed == make(3).image.tobytes()


@every_kind
def test_every_answer_is_a_cell_and_is_asked_for_plainly_and_in_other_words(make):
    document = make(5)
    plain, reworded = ([q for q in document.questions if q.wording == kind] for kind in ("plain", "reworded"))
    assert {question.answer for question in document.questions} <= {text for row in document.cells for text in row}
    assert [q.answer for q in plain] == [q.answer for q in reworded]
    assert not {q.text for q in plain} & {q.text for q in reworded}


def test_a_receipt_adds_up():
    for seed in range(20):
        cells = dict(documents.receipt(seed).cells)
        goods = [float(price) for label, price in cells.items() if label in documents.GOODS]
        assert sum(goods) == pytest.approx(float(cells["Total"])), seed


def test_no_two_values_tie_where_the_highest_is_asked():
    for seed in range(5):
        for document in (documents.receipt(seed), documents.product_table(seed), documents.bar_chart(seed)):
            body = [row for row in document.cells if row[0] not in ("Date", "Total", "Product")]
            assert len({row[-1] for row in body}) == len(body), (seed, document)


def test_a_bare_chart_differs_from_a_labelled_one_in_its_print_alone():
    labelled, bare = documents.bar_chart(1), documents.bar_chart(1, labelled=False)
    assert labelled.cells == bare.cells
    assert labelled.image.tobytes() != bare.image.tobytes()


def test_the_size_of_type_decides_the_size_of_the_page():
    small, large = documents.text_page(0, sizes=(8,)), documents.text_page(0, sizes=(32,))
    assert small.text == large.text
    assert small.image.width < large.image.width


@pytest.mark.parametrize("sizes", [(), (0,), (12, -3)])
def test_type_without_a_size_is_refused(sizes):
    with pytest.raises(InvalidInput, match="one pixel or more"):
        documents.text_page(sizes=sizes)


def test_a_collection_holds_each_kind():
    kinds = [document.kind for document in documents.collection(1)]
    assert sorted(kinds) == sorted(documents.MAKERS)


# What harms a page


@pytest.fixture
def grey() -> Image.Image:
    return Image.new("RGB", (40, 20), (100, 100, 100))


def test_no_harm_changes_nothing(grey):
    ways = {documents.rotated: 0, documents.noisy: 0, documents.blurred: 0, documents.faded: 1}
    assert [way for way, strength in ways.items() if way(grey, strength).tobytes() != grey.tobytes()] == []


def test_a_turned_page_keeps_its_corners_on_white(grey):
    turned = documents.rotated(grey, 45)
    assert turned.height > grey.height
    assert turned.getpixel((0, 0)) == (255, 255, 255)


def test_noise_has_the_spread_it_says_and_its_seed():
    wide = Image.new("RGB", (200, 200), (128, 128, 128))
    noise = np.asarray(documents.noisy(wide, 10), dtype=float)
    assert noise.std() == pytest.approx(10, rel=0.05)
    assert (noise == np.asarray(documents.noisy(wide, 10))).all()
    assert (noise != np.asarray(documents.noisy(wide, 10, seed=1))).any()


def test_blur_smooths_an_edge():
    edge = Image.new("L", (20, 20), 0)
    edge.paste(255, (10, 0, 20, 20))
    assert 0 < documents.blurred(edge, 3).getpixel((9, 10)) < 255


def test_fading_moves_towards_white(grey):
    assert documents.faded(grey, 0.5).getpixel((0, 0)) == (177, 177, 177)
    assert documents.faded(grey, 0).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("harm", [documents.noisy, documents.blurred, documents.faded])
def test_a_harm_that_makes_no_sense_is_refused(grey, harm):
    with pytest.raises(InvalidInput):
        harm(grey, -1)

import random
from collections import Counter

import pytest

from helpers.errors import InvalidInput
from helpers.vision import easyvqa
from helpers.vision.easyvqa import SHAPES, about, group_questions, image, labels, questions


@pytest.mark.parametrize(("split", "images", "count"), [("train", 4000, 38575), ("test", 1000, 9673)])
def test_the_official_questions_are_all_there(split, images, count):
    asked = questions(split)
    assert len(asked) == count
    assert {q.images[0] for q in asked} <= set(range(images))
    assert {q.kind for q in asked} == {"shape", "colour", "yes/no"}


def test_no_image_is_in_both_splits():
    known, others = ({image(s, n).tobytes() for n in range(c)} for s, c in (("train", 4000), ("test", 1000)))
    assert not known & others


def test_the_labels_agree_with_every_answer_that_names_one():
    known = labels("test")
    for question in questions("test"):
        if question.kind != "yes/no" and question.images[0] in known:
            assert question.answer in known[question.images[0]]


def test_the_labels_agree_with_every_yes_and_no():
    known = labels("train")
    for question in questions("train"):
        words = question.text.rstrip("?").split()
        named = [w for w in words if w in SHAPES or w in easyvqa.COLOURS]
        if question.kind == "yes/no" and question.images[0] in known:
            there = named[0] in known[question.images[0]]
            assert question.answer == ("yes" if there != bool({"no", "not"} & set(words)) else "no")


def test_an_image_is_a_small_rgb_picture():
    assert (image("test", 0).size, image("test", 0).mode) == ((64, 64), "RGB")
    with pytest.raises(InvalidInput, match="no image 1000"):
        image("test", 1000)
    with pytest.raises(InvalidInput, match="no split"):
        questions("validation")


def test_groups_are_seeded_and_their_kinds_take_turns():
    asked = group_questions("test", 40, sizes=(2, 3, 4))
    assert asked == group_questions("test", 40, sizes=(2, 3, 4))
    assert asked != group_questions("test", 40, sizes=(2, 3, 4), seed=1)
    assert set(Counter(q.kind for q in asked).values()) == {10}
    assert {len(q.images) for q in asked} == {2, 3, 4}


def test_groups_asked_together_share_their_images_and_have_one_question_of_each_kind():
    asked = group_questions("test", 12, sizes=(2, 3), together=4)
    for start in (0, 4, 8):
        assert len({q.images for q in asked[start : start + 4]}) == 1
        assert {q.kind for q in asked[start : start + 4]} == set(easyvqa.GROUP_KINDS)
    assert len({q.images for q in asked}) == 3
    assert [q.answer for q in asked] == [truth(q) for q in asked]


def truth(question):
    """The answer found another way: by what the words of the question say."""
    named = [labels("test")[n] for n in question.images]
    column = [pair["color" in question.text] for pair in named]
    word = question.text.rstrip("?").split()
    if question.kind == "same":
        return "yes" if len(set(column)) == 1 else "no"
    if question.kind == "one of them":
        return column[easyvqa.IMAGE_ORDINALS.index(word[-2])]
    wanted = next(w.removesuffix("s") for w in word if w.removesuffix("s") in (*SHAPES, *easyvqa.COLOURS))
    has = [wanted in pair for pair in named]
    if question.kind == "how many":
        return str(sum(has))
    return easyvqa.IMAGE_ORDINALS[has.index(True)] if any(has) else "none"


def test_every_answer_about_a_group_is_right():
    asked = group_questions("test", 600, sizes=(2, 3, 4))
    assert [q.answer for q in asked] == [truth(q) for q in asked]


def test_same_is_no_more_often_true_than_a_coin():
    same = Counter(q.answer for q in group_questions("test", 2000) if q.kind == "same")
    assert 0.35 < same["yes"] / same.total() < 0.65


def test_questions_about_one_group_share_its_images():
    asked = about(labels("test"), random.Random(0), size=3, count=5)
    assert len(asked) == 5
    assert len({q.images for q in asked}) == 1


def test_a_group_of_one_or_five_is_refused():
    for sizes in ((1,), (5,), (2, 5)):
        with pytest.raises(InvalidInput, match="2 to 4"):
            group_questions("test", 1, sizes=sizes)

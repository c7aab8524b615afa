import itertools
import re

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import pandas as pd
import pytest
from matplotlib.container import BarContainer

from helpers import catalog, measure, plots
from helpers.data import ROOT
from helpers.errors import InvalidInput
from helpers.instruct import decoding
from helpers.making import drawings
from helpers.reasoning import budget

SCORES = catalog.score_table("MMLU", "Azure model catalog")
ROOFLINE = [
    {"predicted_tokens_per_second": 50, "measured_tokens_per_second": 40, "low": 38, "high": 41, "precision": "bf16"}
]
CURVE = [{"users": n, "ttft_seconds": n * 0.1, "low": n * 0.08, "high": n * 0.2, "backend": "llamacpp"} for n in (4, 1)]
BARS = [
    {"field": field, "accuracy_percent": 50, "low": 40, "high": 65, "model": model}
    for field in ("history", "science")
    for model in ("smollm2-135m", "phi-3.5-mini")
]
LADDER = [
    {"task": task, "parameters": size, "score": score, "low": score - 8, "high": score + 9}
    for task, ends in {"into French": (14, 50, 67), "right tool": (57, 90, 91), "few-shot": (28, 88, 90)}.items()
    for size, score in zip((1543714304, 134515008, 494032768), (ends[2], *ends[:2]), strict=True)
]


def draw(name, **more):
    table = {"sizes": catalog.cards(), "scores": SCORES, "predicted_vs_measured": ROOFLINE}
    table["ladder"] = LADDER
    columns = {
        "bars_with_spread": {"table": BARS, "x": "field", "y": "accuracy_percent", "hue": "model"},
        "lines": {"table": CURVE, "x": "users", "y": "ttft_seconds", "hue": "backend", "band": ("low", "high")},
    }.get(name, {})
    return getattr(plots, name)(*([] if columns else [table[name]]), **columns, **more)


NAMES = ["sizes", "scores", "predicted_vs_measured", "bars_with_spread", "lines", "ladder"]
UNITS = ("parameters", "%", "tokens/s", "(s)")


@pytest.mark.parametrize("name", NAMES)
def test_every_plot_has_a_unit_on_a_labelled_axis_of_those_it_is_given(name):
    _, given = plt.subplots()
    ax = draw(name, ax=given)
    assert ax is given
    assert any(unit in ax.get_xlabel() + ax.get_ylabel() for unit in UNITS)
    assert ax.get_xlabel()


@pytest.mark.parametrize("name", NAMES)
def test_no_two_texts_of_a_plot_overlap(name):
    ax = draw(name)
    ax.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts]
    overlaps = [(a, b) for n, a in enumerate(boxes) for b in boxes[:n] if a.overlaps(b)]
    assert overlaps == []


def test_a_figure_is_six_by_three_and_a_half_inches_and_grows_with_its_rows():
    assert tuple(draw("predicted_vs_measured").figure.get_size_inches()) == (6.0, 3.5)
    assert draw("sizes").figure.get_size_inches()[1] > 3.5


def test_points_that_lie_together_are_named_apart_and_within_the_axes():
    ax = plots.panels(1, width=4, height=3)[0]
    near = [("first", 1.0, 1.0), ("second", 1.01, 1.0), ("third", 1.02, 1.001), ("corner", 0.0, 0.0)]
    ax.scatter(*zip(*((x, y) for _, x, y in near), strict=True))
    plots.name_points(ax, near)
    boxes = [text.get_window_extent() for text in ax.texts]
    assert [text.get_text() for text in ax.texts] == [name for name, *_ in near]
    assert not [pair for pair in itertools.combinations(boxes, 2) if pair[0].overlaps(pair[1])]
    assert all(box.x0 > ax.bbox.x0 and box.y0 > ax.bbox.y0 for box in boxes)


def test_a_point_without_room_is_named_all_the_same():
    ax = plots.panels(1, width=2, height=2)[0]
    plots.name_points(ax, [(f"name {n}", 0.5, 0.5) for n in range(9)])
    assert len(ax.texts) == 9


def test_panels_stand_side_by_side_in_one_figure():
    left, right = plots.panels(2, width=7, height=3)
    assert left.figure is right.figure
    assert left.figure.get_size_inches() == pytest.approx([7, 3])


def test_a_data_frame_is_as_good_as_a_list():
    drawn = [plots.bars_with_spread(table, x="field", y="accuracy_percent") for table in (BARS, pd.DataFrame(BARS))]
    heights = [[bar.get_height() for bar in ax.patches] for ax in drawn]
    assert heights[0] == heights[1] != []


def test_sizes_mark_the_estimate_and_the_active_parameters():
    ax = draw("sizes")
    labels = [text.get_text() for text in ax.texts]
    assert ax.get_xscale() == "log"
    assert labels[0] == "1.76T (estimate)"
    assert "41.9B, 6.64B active" in labels
    hollow = [line for line in ax.lines if line.get_markerfacecolor() == "white"]
    assert len(hollow) == 1


def test_scores_stand_in_order_with_their_interval():
    ax = draw("scores")
    assert [label.get_text() for label in ax.get_yticklabels()][-1] == "GPT-4-Turbo-1106"
    assert len(ax.containers) == len(SCORES)


@pytest.mark.parametrize("table", [catalog.score_table("MMLU"), catalog.score_table(harness="Azure model catalog")])
def test_scores_that_do_not_compare_are_not_drawn_together(table):
    with pytest.raises(InvalidInput, match="do not compare"):
        plots.scores(table)


def test_bars_have_one_spread_each_and_a_legend_of_the_hue():
    ax = draw("bars_with_spread")
    assert len(ax.patches) == 4
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["smollm2-135m", "phi-3.5-mini"]


def test_bars_without_a_hue_take_the_colour_of_their_models_family():
    ax = plots.bars_with_spread(BARS[:1], x="model", y="accuracy_percent")
    assert mpl.colors.to_hex(ax.patches[0].get_facecolor()).upper() == plots.FAMILIES["SmolLM2"]


def test_the_identity_line_runs_through_the_roofline():
    diagonal = draw("predicted_vs_measured").lines[-1]
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata())


def test_a_prediction_has_a_spread_of_its_own_where_one_is_given():
    point = {
        "precision": "fp32",
        "predicted_tokens_per_second": 9,
        "measured_tokens_per_second": 8,
        "low": 7,
        "high": 9,
    }
    (bars,) = plots.predicted_vs_measured([point | {"predicted_low": 6, "predicted_high": 12}]).containers
    across, up = bars.lines[2]
    assert [list(end) for end in across.get_segments()[0]] == [[6, 8], [12, 8]]
    assert [list(end) for end in up.get_segments()[0]] == [[9, 7], [9, 9]]


def test_a_cross_shows_its_four_numbers_and_what_remains_of_them():
    table = pd.DataFrame([[-41, -44], [-47, -45]], index=["nurse", "surgeon"], columns=["she", "he"])
    ax = plots.cross(table)
    assert [text.get_text() for text in ax.texts] == ["−41.0", "−44.0", "−47.0", "−45.0"]
    assert ax.get_xlabel() == "shaded − plain: +3.0 above, +2.0 below; mean +2.5 nats"


def test_a_line_is_sorted_along_x_and_has_its_band():
    ax = draw("lines")
    assert list(ax.lines[0].get_xdata()) == [1, 4]
    assert len(ax.collections) == 1


def test_a_ladder_climbs_along_the_log_axis_and_each_point_has_its_interval():
    ax = draw("ladder")
    assert ax.get_xscale() == "log"
    for (line, _, (arms,)), start in zip(ax.containers, LADDER[::3], strict=True):
        assert list(line.get_xdata()) == sorted(line.get_xdata())
        assert line.get_ydata()[-1] == start["score"]
        assert [(low, high) for (_, low), (_, high) in arms.get_segments()] == [
            (y - 8, y + 9) for y in line.get_ydata()
        ]


def test_a_ladder_names_its_lines_at_their_ends_in_their_order():
    names = [text.get_text() for text in sorted(draw("ladder").texts, key=lambda text: text.get_position()[1])]
    assert names == ["into French", "few-shot", "right tool"]


def test_a_ladder_of_lines_that_look_alike_is_refused():
    with pytest.raises(InvalidInput, match="told apart"):
        plots.ladder([row | {"task": n} for n in range(8) for row in LADDER[:1]])


@pytest.mark.parametrize(
    ("name", "shade"),
    [("phi-3.5-mini", "Phi-3.5"), ("phi-3-mini", "Phi-3"), ("SmolLM2-135M", "SmolLM2"), ("gpt-4", "GPT")],
)
def test_the_colour_of_a_model_is_its_familys(name, shade):
    assert plots.colour(name) == plots.FAMILIES[shade]


def test_families_backends_and_series_never_share_a_look():
    assert {c.family for c in catalog.cards()} == set(plots.FAMILIES)
    assert len(set(plots.FAMILIES.values())) == len(plots.FAMILIES)
    assert len(set(plots.BACKENDS.values())) == len(plots.BACKENDS)


@pytest.mark.parametrize(
    "shade", [*plots.FAMILIES.values(), *plots.OTHERS, plots.NO_FAMILY, decoding.BEFORE, decoding.AFTER, drawings.STILL]
)
def test_every_colour_stands_out_from_white_by_three_to_one(shade):
    assert 1.05 / (plots.luminance(shade) + 0.05) >= 3


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_no_cell_draws_in_a_colour_of_its_own_that_is_too_pale(path):
    code = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    named = re.findall(r"(?<![\w&])#[0-9A-Fa-f]{6}\b", "\n".join(code))
    assert [shade for shade in named if 1.05 / (plots.luminance(shade) + 0.05) < 3] == []


def test_lightness_is_the_known_one_of_known_colours():
    assert [round(plots.lightness(shade)) for shade in ("#000000", "#777777", "#FF0000", "#FFFFFF")] == [0, 50, 53, 100]


def five_series(name):
    """The Axes of a plot of five series."""
    rows = [{"x": x, "y": x + n, "low": x + n - 0.5, "high": x + n + 1, "s": f"s{n}"} for x in (1, 2) for n in range(5)]
    if name == "measure":
        named = {"s": "chat", "x": "prompt_number", "y": "seconds"}
        return measure.plot(pd.DataFrame(rows).rename(columns=named).assign(decode_tokens_per_second=9.0))[0]
    if name == "frontier":
        models = [c.name for c in catalog.cards()[:5]]
        return budget.plot_frontier([budget.WayPoint(m, "at once", 1, 50, 40, 60, 9, 1, 9) for m in models])
    if name == "ladder":
        return plots.ladder([row | {"parameters": row["x"], "score": row["y"]} for row in rows], hue="s")
    return getattr(plots, name)(rows, x="x", y="y", hue="s")


def series_looks(ax):
    """What each series of a plot looks like in grey: its lightness, and all else that tells it from another."""
    bars = [c.patches[0] for c in ax.containers if isinstance(c, BarContainer)]
    hatched = [(plots.lightness(mpl.colors.to_hex(bar.get_facecolor())), bar.get_hatch()) for bar in bars]
    points = [c.lines[0] for c in ax.containers if not isinstance(c, BarContainer) and c.lines[0]] or ax.lines
    drawn = [line for line in points if len(line.get_xdata()) and line.get_marker() not in ("None", "")]
    marks = [(plots.lightness(line.get_color()), (line.get_marker(), line.get_fillstyle())) for line in drawn]
    return hatched or marks


@pytest.mark.parametrize("name", ["bars_with_spread", "lines", "ladder", "measure", "frontier"])
def test_no_two_of_five_series_look_alike_in_grey(name):
    looks = series_looks(five_series(name))
    assert len(looks) == 5
    for (light, pattern), (other, another) in itertools.combinations(looks, 2):
        assert abs(light - other) >= plots.ALIKE_IN_GREY or pattern != another


def test_the_first_three_colours_need_no_pattern_and_all_seven_have_one_of_their_own():
    assert plots.parted(plots.OTHERS[:3], plots.HATCHES) == ["", "", ""]
    for choice in (plots.HATCHES, plots.FILLINGS):
        assert len(plots.parted(plots.OTHERS, choice)) == 7


def test_families_that_look_alike_in_grey_are_hatched_apart():
    table = [BARS[0] | {"model": model} for model in ("smollm2-135m", "phi-3.5-mini", "mistral-7b")]
    ax = plots.bars_with_spread(table, x="field", y="accuracy_percent", hue="model")
    assert [bars.patches[0].get_hatch() for bars in ax.containers[::2]] == ["", "////", "...."]


def test_what_was_before_and_after_differs_in_grey():
    ax = plots.LiveCurve().draw([{"tokens": n, "loss": 9 - n} for n in range(3)])
    for one, other in ((decoding.BEFORE, decoding.AFTER), [line.get_color() for line in ax.lines]):
        assert abs(plots.lightness(one) - plots.lightness(other)) >= plots.ALIKE_IN_GREY


def test_a_backends_marker_is_nobody_elses():
    names = ["transformers", "llamacpp", "something else"]
    ax = plots.lines([CURVE[0] | {"backend": name} for name in names], x="users", y="ttft_seconds", hue="backend")
    assert len({line.get_marker() for line in ax.lines}) == 3


@pytest.mark.parametrize(("table", "said"), [([], "no rows"), ([{"model": "x"}], "users, ttft_seconds")])
def test_a_table_that_cannot_be_plotted_is_refused_with_what_it_lacks(table, said):
    with pytest.raises(InvalidInput, match=said):
        plots.lines(table, x="users", y="ttft_seconds")

"""From logits to the next token, one visible step at a time, and under sliders.

A model gives each token of its vocabulary one number, its *logit*. What follows is arithmetic and takes no model:

    logits → repetition penalty → temperature → top-k → top-p → softmax → probabilities → choice

That is the order of `Sampling`, which every backend of the course keeps. Here it can be looked at; the engines do the
same faster. Two measures say what a setting does to the text: does it repeat, does it vary?

A slider lives as long as its kernel, and a page on the web shows none. So `explore` first displays a picture of six
positions, which is stored with the notebook, and then the sliders, which are not.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from helpers.errors import InvalidInput
from helpers.records import Sampling
from helpers.words import words

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


Numbers: TypeAlias = NDArray[np.float64]
#: What the reader sees who cannot move the sliders.
POSITIONS = {
    "temperature 1": Sampling(temperature=1.0),
    "temperature 0.5": Sampling(temperature=0.5),
    "temperature 2": Sampling(temperature=2.0),
    "top k 3": Sampling(temperature=1.0, top_k=3),
    "top p 0.7": Sampling(temperature=1.0, top_p=0.7),
    "repetition penalty 1.5": Sampling(temperature=1.0, repetition_penalty=1.5),
}
BEFORE, AFTER = "#8C8C8C", "#0072B2"


def softmax(logits: ArrayLike, temperature: float = 1.0) -> Numbers:
    """Probabilities that sum to one: exp(logit ÷ temperature), divided by the sum of all of them.

    >>> softmax([2.0, 2.0, float("-inf")]).tolist()
    [0.5, 0.5, 0.0]
    """
    if temperature <= 0:
        raise InvalidInput(f"A temperature of {temperature} has no softmax.", "Greedy decoding is argmax instead.")
    scaled = _numbers(logits) / temperature
    weights = np.exp(scaled - scaled.max())  # exp(700) overflows, exp(0) does not; the ratio is the same
    return np.asarray(weights / weights.sum())


def penalise(logits: ArrayLike, seen: Iterable[int], penalty: float) -> Numbers:
    """Logits in which tokens already seen are less likely (CTRL, Keskar et al. 2019, section 4.1).

    A positive logit is divided by the penalty and a negative one multiplied, so both fall when it is above 1.
    """
    numbers = _numbers(logits).copy()
    ids = sorted(set(seen))
    numbers[ids] = np.where(numbers[ids] > 0, numbers[ids] / penalty, numbers[ids] * penalty)
    return numbers


def top_k(logits: ArrayLike, k: int) -> Numbers:
    """The k highest logits (Fan et al. 2018, section 5.4); the others become −∞. Zero keeps all."""
    numbers = _numbers(logits)
    if k <= 0 or k >= len(numbers):
        return numbers
    return np.where(numbers >= np.partition(numbers, -k)[-k], numbers, -np.inf)


def top_p(logits: ArrayLike, p: float) -> Numbers:
    """The smallest set of tokens whose probabilities reach p (Holtzman et al. 2020, section 3.1); others become −∞."""
    numbers = _numbers(logits)
    if p >= 1:
        return numbers
    likeliest_first = np.argsort(-numbers, kind="stable")
    probabilities = softmax(numbers)[likeliest_first]
    before = np.cumsum(probabilities) - probabilities  # a token stays while those above it have not reached p
    kept = likeliest_first[before < p]
    filtered = np.full_like(numbers, -np.inf)
    filtered[kept] = numbers[kept]
    return filtered


def distribution(logits: ArrayLike, sampling: Sampling, seen: Iterable[int] = ()) -> Numbers:
    """The probability of each next token under these options; `seen` are the ids of prompt and answer so far."""
    numbers = penalise(logits, seen, sampling.repetition_penalty)
    if sampling.temperature == 0:  # greedy: everything on the highest logit
        return np.asarray(np.eye(1, len(numbers), int(numbers.argmax()))[0])
    return softmax(top_p(top_k(numbers / sampling.temperature, sampling.top_k), sampling.top_p))


def draw_token(probabilities: ArrayLike, random: np.random.Generator) -> int:
    """One token id, drawn with these probabilities: where a random point falls on the line that they divide."""
    edges = np.cumsum(_numbers(probabilities))
    # Rounding can leave the last edge short of one, so the point is drawn below that edge.
    return int(np.searchsorted(edges, random.random() * edges[-1], side="right"))


def draw(probabilities: ArrayLike, count: int, *, seed: int = 0) -> list[int]:
    """So many token ids, each drawn with these probabilities."""
    random = np.random.default_rng(seed)
    return [draw_token(probabilities, random) for _ in range(count)]


def candidates(
    logits: ArrayLike,
    decode: Callable[[int], str],
    sampling: Sampling,
    seen: Iterable[int] = (),
    *,
    rows: int = 12,
) -> pd.DataFrame:
    """The likeliest next tokens: id, text, logit, the model's own probability, and that after the filters.

    The tokens are those that the model itself finds likeliest, in its order, so that two settings compare row by row.
    """
    import pandas as pd

    numbers, seen = _numbers(logits), set(seen)
    own, after = softmax(numbers), distribution(numbers, sampling, seen)
    best = np.argsort(-numbers, kind="stable")[:rows]
    return pd.DataFrame(
        {
            "id": best,
            "token": [decode(int(i)) for i in best],
            "logit": numbers[best],
            "model": own[best],
            "after": after[best],
            "seen": [int(i) in seen for i in best],
        }
    )


def entropy_bits(probabilities: ArrayLike) -> float:
    """How open the choice is: −Σ p log₂ p (Shannon 1948, section 6). Two equal options have one bit.

    >>> entropy_bits([0.5, 0.5, 0.0])
    1.0
    """
    kept = _numbers(probabilities)
    kept = kept[kept > 0]
    return float(-(kept * np.log2(kept)).sum()) + 0.0  # + 0.0 turns −0.0 into 0.0


def distinct_n(texts: Sequence[str], n: int = 2) -> float | None:
    """Diversity of several answers: different n-grams ÷ all n-grams (after distinct-n of Li et al. 2016, section 5).

    1 means that no run of n words comes twice in them all. Longer texts repeat more, so compare equal lengths only.
    None where no text has n words.

    >>> distinct_n(["a cat sat", "a cat ran"], 2)
    0.75
    """
    grams = [gram for text in texts for gram in ngrams(text, n)]
    return len(set(grams)) / len(grams) if grams else None


def repetition(text: str, n: int = 3) -> float | None:
    """Repetition in one answer: the share of n-grams that came before (seq-rep-n of Welleck et al. 2020, section 6).

    >>> repetition("on and on and on and on", 2)
    0.6666666666666667
    """
    different = distinct_n([text], n)
    return None if different is None else 1 - different


def ngrams(text: str, n: int) -> list[tuple[str, ...]]:
    """The runs of n neighbouring words, in lower case; a character of a language without spaces is a word."""
    found = words(text.lower())
    return list(zip(*(found[start:] for start in range(n)), strict=False))


def _numbers(values: Any) -> Numbers:
    """One row of finite or −∞ numbers; a torch tensor of any precision is welcome."""
    if hasattr(values, "detach"):
        values = values.detach().float().cpu().numpy()
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or not len(numbers) or np.isnan(numbers).any():
        raise InvalidInput(
            f"One row of numbers is needed, one for each token of the vocabulary, not the shape {numbers.shape}.",
            "Take the last position of one text: model(ids).logits[0, -1].",
        )
    return numbers


def plot_candidates(table: pd.DataFrame, title: str = "", *, ax: Axes | None = None) -> Axes:
    """A table of `candidates` as bars: grey what the model says, blue what the options make of it."""
    import matplotlib.pyplot as plt

    from helpers import plots

    if ax is None:
        plots.use_theme()
        ax = plt.subplots(layout="constrained")[1]
    places = range(len(table))
    ax.barh(places, table["model"], 0.8, color=BEFORE, label="the model's own")
    ax.barh(places, table["after"], 0.4, color=AFTER, label="after the options")
    ax.set_yticks(places, [_label(row.token, row.seen) for row in table.itertuples()])
    ax.set(xlim=(0, 1), ylim=(len(table) - 0.4, -0.6), xlabel="probability of the next token", title=title)
    ax.grid(axis="y", visible=False)
    return ax


def explore(logits: Any, decode: Callable[[int], str], seen: Iterable[int] = (), *, rows: int = 10) -> None:
    """Displays the distribution of the next token at six positions, and then with sliders to move it."""
    from IPython.display import Image, display

    seen = tuple(seen)
    display(Image(_png(positions(logits, decode, seen))))
    display(explorer(logits, decode, seen, rows=rows))


def positions(logits: Any, decode: Callable[[int], str], seen: Iterable[int] = (), *, rows: int = 6) -> Figure:
    """A figure of the six positions side by side, for those who have no sliders."""
    seen = tuple(seen)
    figure = _figure(9, 5)
    for ax, (name, position) in zip(figure.subplots(2, 3, sharex=True).flat, POSITIONS.items(), strict=True):
        table = candidates(logits, decode, position, seen, rows=rows)
        plot_candidates(table, ax=ax)
        ax.set_title(f"{name}\n{describe_position(logits, position, seen)}", fontsize=8)
        ax.set(xlabel="", xlim=(0, None))
    figure.supxlabel("probability of the next token: grey the model's own, blue after the option", fontsize=8)
    return figure


def position(
    logits: Any, decode: Callable[[int], str], sampling: Sampling, seen: Iterable[int] = (), *, rows: int = 10
) -> Figure:
    """A figure of one position, with a legend."""
    seen = tuple(seen)
    figure = _figure(6, 3.5)
    table = candidates(logits, decode, sampling, seen, rows=rows)
    ax = plot_candidates(table, describe_position(logits, sampling, seen), ax=figure.add_subplot())
    ax.legend(loc="lower right")
    return figure


def explorer(logits: Any, decode: Callable[[int], str], seen: Iterable[int] = (), *, rows: int = 10) -> Any:
    """One widget: its children are four sliders and the picture that follows them."""
    import ipywidgets

    seen = tuple(seen)
    style = {"description_width": "11em"}
    layout = ipywidgets.Layout(width="26em")
    options = {"style": style, "layout": layout}
    sliders = {
        "temperature": ipywidgets.FloatSlider(1.0, min=0, max=3, step=0.1, description="temperature", **options),
        "top_k": ipywidgets.IntSlider(0, min=0, max=50, description="top-k (0: off)", **options),
        "top_p": ipywidgets.FloatSlider(1.0, min=0.05, max=1, step=0.05, description="top-p (1: off)", **options),
        "repetition_penalty": ipywidgets.FloatSlider(
            1.0, min=1, max=2, step=0.1, description="repetition penalty", **options
        ),
    }
    picture = ipywidgets.HTML()  # an Image widget takes no words for those who cannot see it

    def redraw(_: Any = None) -> None:
        chosen = Sampling(**{name: slider.value for name, slider in sliders.items()})
        drawn = b64encode(_png(position(logits, decode, chosen, seen, rows=rows))).decode()
        told = escape(f"Bars of the likeliest next tokens: {describe_position(logits, chosen, seen)}.")
        style = "width:640px;max-width:100%"
        picture.value = f'<img style="{style}" alt="{told}" src="data:image/png;base64,{drawn}">'

    for slider in sliders.values():
        slider.observe(redraw, "value")
    redraw()
    return ipywidgets.VBox([*sliders.values(), picture])


def describe_position(logits: Any, sampling: Sampling, seen: Iterable[int] = ()) -> str:
    """How many tokens are left to choose from, and how open the choice is."""
    probabilities = distribution(logits, sampling, seen)
    left = int((probabilities > 0).sum())
    return f"{left:,} token{'s' * (left > 1)} left, {entropy_bits(probabilities):.1f} bits"


def _png(figure: Figure) -> bytes:
    written = BytesIO()
    figure.savefig(written, format="png", dpi=110)
    return written.getvalue()


def _figure(width: float, height: float) -> Figure:
    """A figure that pyplot does not know, so that a notebook neither keeps it nor shows it a second time."""
    from matplotlib.figure import Figure

    from helpers import plots

    plots.use_theme()
    return Figure(figsize=(width, height), layout="constrained")


def _label(token: str, seen: bool) -> str:
    """The token with its space visible, a star where it came before; a dollar sign would begin a formula."""
    return repr(token).replace("$", r"\$") + "*" * seen

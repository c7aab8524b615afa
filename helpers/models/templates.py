"""Chat templates: from turns to the one string that a model was trained to continue.

A template is a small Jinja program that ships with the model; it writes control tokens such as `<|im_end|>` around
each turn. They are rendered in a sandbox, since a template comes with a download, and with what transformers gives a
template there; its own renderer is not used, since importing it takes longer than opening a model with llama.cpp.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment

from helpers.errors import InvalidInput
from helpers.records import Turn

#: A turn, or a message as a template takes it, whose `content` is a text.
Said = Turn | Mapping[str, Any]
#: What a template's own mistakes raise: it is a program, run on a conversation that it may not expect.
_MISTAKES = (jinja2.TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RecursionError)


def _refuse(message: str) -> None:
    raise InvalidInput(f"The model's chat template refuses this conversation: {message}")


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as it is; Jinja's own filter would escape it for a web page."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


class _Dict:
    """Python's dict, without the attributes that lead out of the sandbox."""

    def __call__(self, *pairs: Any, **named: Any) -> dict[Any, Any]:
        return dict(*pairs, **named)

    def fromkeys(self, keys: Any, value: Any = None) -> dict[Any, Any]:
        return dict.fromkeys(keys, value)


class _Generation(Extension):
    """`{% generation %}` marks what the assistant wrote, for training; in a prompt it changes nothing."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 types it so

    def parse(self, parser: Parser) -> nodes.Node:
        """The block as a call that gives back what it holds."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_held"), [], [], body).set_lineno(line)

    def _held(self, caller: Macro) -> str:
        return caller()


@cache
def _compiled(template: str) -> jinja2.Template:
    # trim_blocks and lstrip_blocks are what every template on the hub is written for.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _tojson
    environment.globals |= {
        "raise_exception": _refuse,
        "dict": _Dict(),
        "strftime_now": lambda form: datetime.now().strftime(form),
    }
    return environment.from_string(template)


def render(template: str, turns: Sequence[Said], *, image: str | None = "", **tokens: Any) -> str:
    """The turns as the model was trained to see them, ending where the assistant's answer begins.

    A turn may also be a message as the template itself takes it, with `tool_calls` for example. `image` is what stands
    for an image before a turn's text; None for a template that writes this itself, and takes a turn as a list of parts.
    `tokens` are the template's own variables, such as `bos_token` or `tools`.

    >>> render("{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}", [Turn("user", "Hi")])
    '<user>Hi'
    """
    if not template:
        raise InvalidInput(
            "This model has no chat template: it was trained to continue a text, not to answer.",
            "Give it the beginning of a text with chat.complete(…), or open a model with 'instruct' in its name.",
        )
    messages = [
        {"role": turn.role, "content": _content(turn, image)} if isinstance(turn, Turn) else turn for turn in turns
    ]
    given = {"messages": messages, "tools": None, "documents": None, "add_generation_prompt": True}
    try:
        return _compiled(template).render(given | tokens)
    except InvalidInput:
        raise
    except _MISTAKES as error:
        raise InvalidInput(f"The model's chat template cannot be rendered: {error}") from error


def takes_parts(template: str) -> bool:
    """Whether the template takes a turn as a list of parts, images and text, as those of most models that see do.

    >>> takes_parts("{% for m in messages %}{{ m.content }}{% endfor %}")
    False
    """
    probe = Turn("user", "probe")
    try:
        rendered = render(template, [probe], image=None)
    except InvalidInput:
        return False
    return probe.text in rendered and "'text'" not in rendered  # else it wrote the list as Python shows it


def _content(turn: Turn, image: str | None) -> str | list[dict[str, str]]:
    if image is not None:
        return image * len(turn.images) + turn.text
    return [*({"type": "image"} for _ in turn.images), {"type": "text", "text": turn.text}]


def _with_text(turn: Said, text: str) -> Said:
    """The turn with another text; a message without one, which holds calls, stays as it is."""
    if isinstance(turn, Turn):
        return replace(turn, text=text)
    return {**turn, "content": text} if turn["content"] else turn


def pieces(template: str, turns: Sequence[Said], *, image: str | None = "", **tokens: Any) -> list[tuple[str, bool]]:
    """The rendered prompt as (text, typed) pieces: `typed` is True for what a person or the model wrote.

    Joined, the texts equal `render(…)`. What is typed can then be tokenized without control tokens, so that a user
    who types `<|im_end|>` sends those characters and not the end of the turn. A template that rewrites the
    text (other than stripping its ends) is refused, since typed and template text could not be told apart.
    """
    moment = datetime.now()  # the same in each rendering, for a template that writes the time
    tokens = {"strftime_now": lambda form: moment.strftime(form)} | tokens
    whole = render(template, turns, image=image, **tokens)
    mark = f"\ufdd0{secrets.token_hex(8)}\ufdd1"  # noncharacters: in no template, and not guessable
    said = [turn.text if isinstance(turn, Turn) else turn["content"] for turn in turns]
    for texts in (said, [text.strip() for text in said]):
        marked = [_with_text(turn, f"{mark}{text}{mark}") for turn, text in zip(turns, texts, strict=True)]
        split = render(template, marked, image=image, **tokens).split(mark)
        if "".join(split) == whole:
            return [(text, bool(n % 2)) for n, text in enumerate(split) if text]
    raise InvalidInput(
        "The text holds control tokens of this model, and its chat template rewrites texts, so they cannot be "
        "kept apart.",
        "Take strings such as <|end|> out of the text.",
    )

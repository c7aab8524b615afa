"""A GGUF file as a model of Ollama: `write(card)` makes the Modelfile that `ollama create` reads.

A Modelfile (https://docs.ollama.com/modelfile) names the weights, the chat template in the language of Go's
text/template, and the strings that end an answer. A GGUF file brings its template in Jinja, so it is translated: from
how Jinja renders a few conversations follows what stands before and after the words of each role.
"""

from __future__ import annotations

import re
from os.path import commonprefix
from pathlib import Path

from helpers import files, weights
from helpers.errors import InvalidInput
from helpers.records import ModelCard, Role, Turn
from helpers.templates import render

#: A control token, or the beginning of one, at the end of a text.
_OPEN_TOKEN = re.compile(r"<\|[^|]*(\|>)?$")
_TOKENS = re.compile(r"<\|\w+\|>")
_ROLES: tuple[Role, ...] = ("system", "user", "assistant", "user")


def write(card: ModelCard, folder: Path | None = None, *, context: int = 4096) -> Path:
    """The Modelfile of a card's GGUF file, written into `folder`; prints the command that gives it to Ollama."""
    source = weights.gguf(card)
    if card.shape:
        context = min(context, card.shape.context)
    folder = folder or files.home() / "ollama" / card.name
    target = folder / "Modelfile"
    with files.plain_disk_errors(folder, "the Modelfile"):
        folder.mkdir(parents=True, exist_ok=True)
        target.write_text(text(source, template_of(source), context), encoding="utf-8")
    print(f'ollama create {card.name} -f "{target}"')
    return target


def text(source: Path, template: str, context: int) -> str:
    """A Modelfile for the weights at `source` with a chat template in Jinja."""
    lines = [f"FROM {source.resolve()}", f'TEMPLATE """{go_template(template)}"""']
    lines += [f'PARAMETER stop "{token}"' for token in stops(template)]
    return "\n".join([*lines, f"PARAMETER num_ctx {context}", ""])


def template_of(source: Path) -> str:
    """The chat template in a GGUF file, in Jinja."""
    from gguf import GGUFReader

    field = GGUFReader(source).get_field("tokenizer.chat_template")
    if field is None:
        raise InvalidInput(f"{source.name} holds no chat template.", "It continues texts; for a chat, take another.")
    return str(field.contents())


def go_template(template: str) -> str:
    """A chat template in Jinja as one in the language of Go's text/template, with the variables of Ollama."""
    default, ends = _parts(template)
    roles = [
        f'{{{{ {"else " * bool(n)}if eq .Role "{role}" }}}}{_literal(before)}{{{{ .Content }}}}{_literal(after)}'
        for n, (role, (before, after)) in enumerate(ends.items())
    ]
    start = f"{{{{ if not .System }}}}{_literal(default)}{{{{ end }}}}" if default else ""
    turns = "".join(roles)
    return f"{start}{{{{ range .Messages }}}}{turns}{{{{ end }}}}{{{{ end }}}}{_literal(ends['assistant'][0])}"


def stops(template: str) -> list[str]:
    """The control tokens that an answer ends at: what follows it, and what begins the next turn."""
    _, ends = _parts(template)
    return list(dict.fromkeys(_TOKENS.findall(ends["assistant"][1] + ends["user"][0])))


def _parts(template: str) -> tuple[str, dict[str, tuple[str, str]]]:
    """What the template writes when there is no system message, and before and after the words of each role."""
    system, user, answer, again = (Turn(role, f"\ufdd0{n}\ufdd1") for n, role in enumerate(_ROLES))
    _, open_system = _around(template, system)
    begin, between, open_user, after, _ = _split(template, system, user, answer, again)
    # An open answer and a user's turn begin differently; what they have in common ends the turn before them.
    end_system = _OPEN_TOKEN.sub("", commonprefix([open_system, between]))  # noqa: RUF071 - of texts
    before_user, before_answer = between.removeprefix(end_system), open_system.removeprefix(end_system)
    if not (open_user.endswith(before_answer) and after.endswith(before_user)):
        raise InvalidInput("The chat template writes turns that depend on each other; Ollama's form cannot tell that.")
    ends = {
        "system": (begin, end_system),
        "user": (before_user, open_user.removesuffix(before_answer)),
        "assistant": (before_answer, after.removesuffix(before_user)),
    }
    return _around(template, user)[0].removesuffix(before_user), ends


def _around(template: str, turn: Turn) -> tuple[str, str]:
    before, _, after = render(template, [turn], bos_token="", eos_token="").partition(turn.text)
    return before, after


def _split(template: str, *turns: Turn) -> list[str]:
    """A rendered conversation without the words of its turns."""
    rendered = render(template, turns, bos_token="", eos_token="")
    return re.split("|".join(re.escape(turn.text) for turn in turns), rendered)


def _literal(words: str) -> str:
    """A text as it stands in Go's template language, which opens its own commands with two braces."""
    return words.replace("{{", '{{ "{{" }}')

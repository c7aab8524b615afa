"""Chat templates render as transformers renders them, with all that it offers them, and stay in their sandbox."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from transformers.utils.chat_template_utils import _compile_jinja_template, render_jinja_template

from helpers.errors import InvalidInput
from helpers.models import templates
from helpers.records import Turn

TURNS = [
    Turn("system", 'Be "kind" & <b>true</b>.'),
    Turn("user", "Héj\n"),
    Turn("assistant", "Yes."),
    Turn("user", "Why?"),
]

#: What the templates of published models use, in the words that they use.
OFFERED = {
    "generation (SmolLM3)": "{% for m in messages %}{% if m.role == 'assistant' %}\n  {%- generation -%}\n"
    "{{ '<|im_start|>' + m.content }}<|im_end|>\n  {%- endgeneration -%}\n{% else %}<{{ m.content }}>\n{% endif %}"
    "{% endfor %}",
    "the date (Llama 3, Phi-4-reasoning)": "{% if not date is defined %}{% set date = strftime_now('%d %b %Y') %}"
    "{% endif %}Today: {{ date }} {{ messages[0].content }}",
    "no tools (Qwen)": "{%- if tools is not none and tools %}{{ tools | tojson }}{% else %}none{% endif %}"
    "{{ documents is none }}{{ messages[-1]['content'] }}",
    "tojson": "{{ messages[0] | tojson }}|{{ messages | tojson(indent=2) }}|{{ messages[1] | tojson(sort_keys=true) }}|"
    "{{ messages[1].content | tojson(ensure_ascii=true) }}|{{ {'b': 1, 'a': 2} | tojson(separators=(',', ':')) }}",
    "loop controls": "{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}{{ m.content }}"
    "{% if loop.index > 2 %}{% break %}{% endif %}{% endfor %}",
    "a namespace": "{% set ns = namespace(n=0, self='x') %}{% for m in messages %}{% set ns.n = ns.n + 1 %}"
    "{% endfor %}{{ ns.n }}",
    "dict": "{{ dict(a=1, b=2) }}{{ dict.fromkeys(['a', 'b'], 0) }}{{ dict([('k', 'v')]).k }}",
    "a macro": "{% macro turn(m) %}[{{ m.role }}: {{ m.content | trim }}]{% endmacro %}"
    "{% for m in messages %}{{ turn(m) }}{% endfor %}",
    "filters and tests": "{{ messages | map(attribute='role') | join(',') }} "
    "{{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ messages[1].content is string }} "
    "{{ messages[1:][::-1][0].content.split('h') }}",
    "the prompt for an answer": "{% if add_generation_prompt %}<|assistant|>{% endif %}{{ bos_token }}{{ absent }}",
}


@pytest.mark.parametrize("template", OFFERED.values(), ids=OFFERED)
def test_a_template_renders_as_transformers_renders_it(template: str) -> None:
    assert templates.render(template, TURNS, bos_token="<s>") == theirs(template, bos_token="<s>")


def theirs(template: str, **tokens: Any) -> str:
    """The same conversation by transformers' own renderer."""
    messages = [{"role": turn.role, "content": turn.text} for turn in TURNS]
    rendered, _ = render_jinja_template([messages], chat_template=template, add_generation_prompt=True, **tokens)
    return str(rendered[0])


@pytest.mark.fault("models and their files")
def test_nothing_that_transformers_offers_a_template_is_lacking() -> None:
    ours, own = templates._compiled("x").environment, _compile_jinja_template("x").environment
    for kind in ("globals", "filters", "tests"):
        assert set(getattr(ours, kind)) == set(getattr(own, kind))
    assert tags(ours) == tags(own)
    assert (ours.trim_blocks, ours.lstrip_blocks) == (own.trim_blocks, own.lstrip_blocks)


def tags(environment: Any) -> set[str]:
    return {tag for extension in environment.extensions.values() for tag in extension.tags}


def test_pieces_of_a_template_that_writes_the_time_still_join(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock(datetime):
        """A second passes at each look."""

        seconds = 0

        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            cls.seconds += 1
            return datetime(2026, 1, 1, 0, 0, cls.seconds)

    monkeypatch.setattr(templates, "datetime", Clock)
    template = "{{ strftime_now('%S') }}{% for m in messages %}{{ m.content }}{% endfor %}"
    assert templates.pieces(template, [Turn("user", "Hi")])[-1] == ("Hi", True)


@pytest.mark.fault("models and their files")
@pytest.mark.parametrize(
    "template",
    [
        "{{ messages.__class__ }}{{ messages.__class__.__mro__ }}",
        "{{ dict.__class__.__mro__ }}",
        "{{ strftime_now.__globals__.json }}",
        "{{ raise_exception.__globals__['json'] }}",
        "{{ ''.format.__func__.__name__ }}",
        "{{ messages.append({}) }}",
        "{{ '{0.__class__.__mro__}'.format(messages) }}",
        "{% set ns = namespace() %}{% set ns.__class__ = 1 %}{{ ns.__class__.__mro__ }}",
        "{% for n in range(10000000) %}x{% endfor %}",
    ],
)
def test_a_template_cannot_leave_its_sandbox(template: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be rendered"):
        templates.render(template, TURNS)


@pytest.mark.fault("models and their files")
@pytest.mark.parametrize(
    "template",
    [
        "{{ 1 / 0 }}",
        "{{ 'a' + messages }}",
        "{{ messages[99].content.x }}",
        "{% for %}",
        "{{ '%d' % 'x' }}",
        "{{ x() }}",
    ],
)
def test_a_templates_own_mistake_is_a_sentence(template: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be rendered"):
        templates.render(template, TURNS)


def test_a_model_without_a_template_is_told_to_complete() -> None:
    with pytest.raises(InvalidInput, match=r"no chat template(.|\n)*chat\.complete"):
        templates.render("", TURNS)

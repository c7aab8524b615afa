"""The Modelfile of a GGUF file: its template writes, in Go's language, what the model's own writes in Jinja."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from helpers import modelfile
from helpers.backends import Backend
from helpers.errors import InvalidInput
from helpers.records import ModelCard, Turn
from helpers.templates import render
from test_phi import TEMPLATE as PHI_3

#: Phi-4's form, without a line break anywhere.
PHI_4 = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '<|im_sep|>' + m['content'] + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}"
)
ASKED = [Turn("user", "Hi")]
TALKS = [ASKED, [Turn("system", "Be kind."), *ASKED], [*ASKED, Turn("assistant", "Yes?"), Turn("user", "{{ Why? }}")]]


def go(template: str, turns: list[Turn]) -> str:
    """The few commands of Go's text/template that a Modelfile of ours holds, as Ollama runs them."""
    default, turn, end = re.fullmatch(
        r"(?:{{ if not \.System }}(.*?){{ end }})?{{ range \.Messages }}(.*){{ end }}{{ end }}(.*)", template, re.DOTALL
    ).groups("")  # type: ignore[union-attr]
    forms = dict(re.findall(r'{{ (?:else )?if eq \.Role "(\w+)" }}(.*?)(?={{ else|\Z)', turn, re.DOTALL))
    written = [forms[t.role].replace("{{ .Content }}", t.text) for t in turns]
    return "".join([default if turns[0].role != "system" else "", *written, end])


@pytest.mark.parametrize("talk", TALKS)
@pytest.mark.parametrize("template", [PHI_3, PHI_4, "embedded"])
def test_both_templates_write_the_same(template: str, talk: list[Turn], llama: Backend) -> None:
    jinja = llama.template if template == "embedded" else template
    assert go(modelfile.go_template(jinja), talk) == render(jinja, talk)


@pytest.mark.parametrize(
    ("template", "stops"),
    [
        (PHI_3, ["<|end|>", "<|user|>"]),
        (PHI_4, ["<|im_end|>", "<|im_start|>", "<|im_sep|>"]),
    ],
)
def test_an_answer_ends_at_the_models_control_tokens(template: str, stops: list[str]) -> None:
    assert modelfile.stops(template) == stops


def test_the_embedded_models_file_is_written(
    card: ModelCard, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = modelfile.write(card, tmp_path)
    lines = target.read_text(encoding="utf-8").splitlines()
    assert Path(lines[0].removeprefix("FROM ")).is_file()
    assert lines[-3:] == ['PARAMETER stop "<|im_end|>"', 'PARAMETER stop "<|im_start|>"', "PARAMETER num_ctx 4096"]
    assert capsys.readouterr().out.strip() == f'ollama create smollm2-135m -f "{target}"'


def test_turns_that_depend_on_each_other_are_refused() -> None:
    template = "{% for m in messages %}{{ loop.index }}{{ m.content }}{% endfor %}"
    with pytest.raises(InvalidInput, match="depend on each other"):
        modelfile.go_template(template)

"""What this machine has, and what a learner can do with it: `python -m helpers.doctor [--json]`.

Looks at everything and changes nothing. A key is told as present or absent, never shown.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from helpers import backends, catalog, machine, settings
from helpers.backends import ollama, providers
from helpers.errors import CourseError, InvalidInput, UnknownAddress, WrongKey
from helpers.models import sources
from helpers.models.files import home
from helpers.records import ModelCard

EMBEDDED = "smollm2-135m"
#: Four bits a weight, and a scale for each small block of them: about 4.8 bits in all.
BYTES_PER_PARAMETER = 0.6
#: Above this a model without a GPU answers more slowly than most people read.
COMFORTABLE_PARAMETERS = 4.5e9


def key_holders() -> list[dict[str, str]]:
    """The places that take a key: `name`, the environment `variable` that holds it, a `note`."""
    rows = [row for row in providers.providers() if row.key_variable and not row.our_server]
    places = [(row.title, row.key_variable, f"retired on {row.retired}" if row.retired else "") for row in rows]
    places.append(("Hugging Face Hub", "HF_TOKEN", "for gated models only"))
    return [{"name": name, "variable": variable, "note": note} for name, variable, note in places]


def examine() -> dict[str, Any]:
    """All that is known of this machine, as values that JSON can hold."""
    free = machine.free_memory_gib()
    return {
        "place": where(),
        "machine": asdict(machine.describe()) | {"threads": machine.threads(), "free_memory_gib": round(free, 1)},
        "disk": {"free_gib": round(machine.free_disk_gib(home()), 1)},
        # The echo needs no package: it is for tests, and no engine to a learner.
        "engines": [
            _engine(engine) for engine in [*backends.engines().values(), *backends.sdks().values()] if engine.package
        ],
        "providers": [place | {"key": _is_set(place["variable"])} for place in key_holders()],
        "ollama": ollama_version(),
        "troubles": troubles(),
        "cache": {"path": _tilde(home()), "gib": round(folder_gib(home()), 2), EMBEDDED: sources.state(EMBEDDED)},
        "fits_in_memory_at_4_bits": [card.name for card in fitting(free)],
    }


def where() -> str:
    """Which of the three places that the course knows this is: configuration alone makes the difference."""
    if os.environ.get("JUPYTERHUB_API_URL"):
        return "a class's Hub"
    return "a Codespace" if os.environ.get("CODESPACES") == "true" else "a machine of your own"


def fitting(memory_gib: float) -> list[ModelCard]:
    """The models of the catalog with public weights that fit in `memory_gib` at four bits, smallest first."""
    public = [card for card in catalog.cards() if card.embedded or card.hub]
    fit = [card for card in public if four_bit_gib(card) <= memory_gib]
    return sorted(fit, key=lambda card: card.parameters)


def four_bit_gib(card: ModelCard) -> float:
    """The memory of a model's weights at four bits, in GiB; a mixture of experts keeps all of them in memory.

    >>> round(four_bit_gib(catalog.card("phi-3.5-mini")), 1)
    2.1
    """
    return card.parameters * BYTES_PER_PARAMETER / machine.GIB


def ollama_version() -> str | None:
    """The version of the Ollama that answers where OLLAMA_HOST says; None where none answers at once."""
    try:
        return ollama.version(seconds=0.3)
    except CourseError:
        return None


def troubles() -> list[str]:
    """What is set and cannot be what it says: a key, an address, a file of certificates, a sentence each."""
    found = [f"{said} Set it to a file of certificates, or leave it out." for said in settings.certificate_troubles()]
    for row in providers.providers():
        try:
            providers.route(row.name)
        except (WrongKey, UnknownAddress, InvalidInput) as error:
            found.append(f"{error.message} {error.next_step}")
        except CourseError:  # not set, or retired, which the table tells
            continue
    if machine.accelerator() and (said := machine.gpu_trouble()):  # torch is loaded only where there is one
        found.append(f"{said} The processor computes instead; an older release of torch may know that GPU.")
    return list(dict.fromkeys(found))


def folder_gib(folder: Path) -> float:
    """What a folder's files take on the disk, in GiB; a folder that is not there takes nothing."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / machine.GIB


def report(findings: dict[str, Any]) -> str:
    """The findings for a human: one fact a line, then in sentences what this machine can do."""
    here, cache = findings["machine"], findings["cache"]
    sections: dict[str, list[tuple[str, str]]] = {
        "This machine": [
            ("Where", findings["place"]),
            ("Python", here["python"]),
            ("System", here["system"]),
            ("Processor", f"{here['processor']}, {here['cores']} cores ({here['threads']} for an engine)"),
            ("Memory", f"{here['memory_gib']:.1f} GiB, {here['free_memory_gib']:.1f} free"),
            ("Disk", f"{findings['disk']['free_gib']:.1f} GiB free"),
            ("Accelerator", here["accelerator"] or "none"),
        ],
        "Engines": [
            (
                engine["name"],
                engine["missing"] or engine["version"] + (", reaches providers" if engine["hosted"] else ""),
            )
            for engine in findings["engines"]
        ],
        "Providers": [_provider_line(provider) for provider in findings["providers"]]
        + [("Ollama", f"version {findings['ollama']} runs" if findings["ollama"] else "not running")],
        "Models": [("Cache", f"{cache['path']}, {cache['gib']:.2f} GiB"), (EMBEDDED, cache[EMBEDDED])],
    }
    lines = []
    for title, facts in sections.items():
        lines += [title, *(f"  {name:20}{fact}" for name, fact in facts), ""]
    return "\n".join(lines + advice(findings))


def advice(findings: dict[str, Any]) -> list[str]:
    """What the learner can do with this machine, a sentence each."""
    here = findings["machine"]
    names = findings["fits_in_memory_at_4_bits"]
    sentences = []
    if findings["cache"][EMBEDDED] != "ready":
        sentences.append(f"The embedded model is {findings['cache'][EMBEDDED]}: `python3 course.py lab` fetches it.")
    if names:
        largest = catalog.card(names[-1])
        sentences.append(
            f"{len(names)} of the catalog's models fit at 4 bits in {here['free_memory_gib']:.1f} GiB of free memory: "
            f"up to {largest.title}, whose weights take {four_bit_gib(largest):.1f} GiB."
        )
    else:
        sentences.append("No model fits in the free memory: shut down other programs and notebooks' kernels first.")
    if names and here["accelerator"] is None:
        texts = [card for card in map(catalog.card, names) if card.modalities == ("text",)]
        quick = [card for card in texts if card.active_parameters <= COMFORTABLE_PARAMETERS]
        sentences.append(
            f"Without a GPU a model computes on the processor: comfortable up to {quick[-1].title}, "
            "slower than reading speed for the larger ones. No notebook needs a GPU."
        )
    if findings["place"] == "a class's Hub":
        sentences.append("Your class has a model server: open_chat(…, provider='class') asks it, and needs no key.")
    sentences += findings["troubles"]
    if not any(provider["key"] for provider in findings["providers"]):
        sentences.append("No provider's key is set, and none is needed: notebooks that use one say so and show how.")
    return sentences


def _engine(engine: type[backends.Backend]) -> dict[str, Any]:
    reason = engine.missing()
    version = None if reason else engine.version()
    return {"name": engine.name, "version": version, "missing": reason, "hosted": engine.hosted}


def _provider_line(provider: dict[str, Any]) -> tuple[str, str]:
    note = f", {provider['note']}" if provider["note"] else ""
    return provider["name"], f"{provider['variable']} {'present' if provider['key'] else 'not set'}{note}"


def _is_set(variable: str) -> bool:
    try:
        return settings.setting(variable) is not None
    except InvalidInput:  # a .env that cannot be read is among the troubles
        return False


def _tilde(path: Path) -> str:
    """A path without the name of its user, fit to be shown to others."""
    try:
        return (Path("~") / path.relative_to(Path.home())).as_posix()
    except (ValueError, RuntimeError):
        return str(path)


def main(arguments: list[str] | None = None, out: Callable[[str], object] = print) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m helpers.doctor", description="What this machine can do.")
    parser.add_argument("--json", action="store_true", help="for programs")
    asked = parser.parse_args(arguments)
    try:
        findings = examine()
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    out(json.dumps(findings, indent=2, ensure_ascii=False) if asked.json else report(findings))
    return 0


if __name__ == "__main__":
    sys.exit(main())

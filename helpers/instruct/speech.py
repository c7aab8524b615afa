"""An accessible reader: how easy a text is to read, and its sound.

A language model of this course writes text, not sound. The English voice is a small model of its own, hibari, which
lies in its package and runs on every system. Other languages take a program of the system: espeak-ng on Linux, `say` on
macOS, System.Speech on Windows. Where there is none, the text itself is what the reader gets.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import tempfile
import wave
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from helpers.errors import InvalidInput

VOICE_SECONDS = 60
#: A voice may be asked for by language, as in "en", "sv" or "zh".
LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z0-9]{2,8})?", re.IGNORECASE)
#: Reads the text from standard input, so that no letter of it is ever read as a command.
WINDOWS_SCRIPT = (
    "[Console]::InputEncoding = [Text.Encoding]::UTF8; Add-Type -AssemblyName System.Speech; "
    "$voice = New-Object System.Speech.Synthesis.SpeechSynthesizer; "
    "$voice.SetOutputToWaveFile($args[0]); $voice.Speak([Console]::In.ReadToEnd()); $voice.Dispose()"
)


@dataclass(frozen=True, slots=True)
class Spoken:
    """What came of a text: `wav` is its sound, None where nothing here can speak; `note` says what was done."""

    text: str
    engine: str | None
    wav: bytes | None
    note: str

    def __repr__(self) -> str:
        return f"Spoken({self.note!r})"

    @property
    def seconds(self) -> float:
        """How long the sound lasts; 0 without sound."""
        if self.wav is None:
            return 0.0
        with wave.open(io.BytesIO(self.wav)) as sound:
            return sound.getnframes() / sound.getframerate()

    def player(self) -> Any:
        """A widget that plays the sound in the browser and is not stored; None without sound."""
        if self.wav is None:
            return None
        import ipywidgets

        return ipywidgets.Audio(value=self.wav, format="wav", autoplay=False, loop=False)


def _espeak(program: str) -> Callable[[str, str], list[str]]:
    return lambda wav, language: [program, "-v", language, "-w", wav, "--stdin"]


def _powershell(wav: str) -> list[str]:
    quoted = wav.replace("'", "''")
    return ["powershell", "-NoProfile", "-Command", f"& {{{WINDOWS_SCRIPT}}} '{quoted}'"]


def _hibari(wav: str, _: str) -> list[str]:
    return [sys.executable, "-I", "-X", "utf8", "-m", "hibari.cli", "-o", wav]


#: Each engine's name, and the command that turns standard input into a sound file. Only espeak is told the language.
ENGINES: dict[str, Callable[[str, str], list[str]]] = {
    "hibari": _hibari,
    "espeak-ng": _espeak("espeak-ng"),
    "espeak": _espeak("espeak"),
    "say": lambda wav, _: ["say", "-o", wav, "--data-format=LEI16@22050", "-f", "-"],
    "powershell": lambda wav, _: _powershell(wav),
}


def engine(language: str = "en") -> str | None:
    """The name of the first engine here that reads the language; None where there is none.

    macOS and Windows read any text in the voice that the system is set to.
    """
    return next((name for name in ENGINES if _is_here(name, language)), None)


def _is_here(name: str, language: str) -> bool:
    if name == "hibari":
        return language.lower().partition("-")[0] == "en" and find_spec(name) is not None
    return shutil.which(name) is not None


def speak(text: str, language: str = "en") -> Spoken:
    """The text as sound in a WAV file's bytes, so that it can be heard in a browser too; else the text alone."""
    if not text.strip():
        raise InvalidInput("There is nothing to read aloud.", "Give a text.")
    if not LANGUAGE.fullmatch(language):
        raise InvalidInput(f"{language!r} is no code of a language.", "Write it as in 'en', 'sv' or 'zh'.")
    name = engine(language)
    if name is None:
        return Spoken(text, None, None, f"no voice for {language!r} on this system, so the text stays text")
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "speech.wav"
        problem = _run(ENGINES[name](str(wav), language), text)
        if problem is None and wav.exists() and wav.stat().st_size:
            return Spoken(text, name, wav.read_bytes(), f"read aloud by {name}")
    note = f"{name} cannot speak here ({problem or 'it wrote no sound'}), so the text stays text"
    return Spoken(text, name, None, note)


def _run(command: Sequence[str], text: str) -> str | None:
    """Gives the text to the command; None when all went well, else what went wrong in a few words."""
    try:
        done = subprocess.run(command, input=text.encode(), capture_output=True, timeout=VOICE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return type(error).__name__
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return (lines[-1] if lines else f"exit status {done.returncode}") if done.returncode else None


def reading_ease(text: str) -> float:
    """How easy an English text is, by Flesch's formula (1948, Journal of Applied Psychology 32:221-233).

    206.8 − 1.015 × words per sentence − 84.6 × syllables per word: 90 is for children, below 30 for specialists.
    It counts lengths and knows no meaning, so a list of short nonsense is "easy". Syllables are estimated.

    >>> reading_ease("The cat sat on the mat.") > reading_ease("Institutional administration necessitates approval.")
    True
    """
    words = re.findall(r"[a-z']+", text.lower())
    if not words:
        raise InvalidInput("There is no English word in this text.", "Reading ease is defined for English.")
    sentences = [part for part in re.split(r"[.!?]+(?:\s|$)", text) if re.search(r"\w", part)]
    return 206.835 - 1.015 * len(words) / len(sentences) - 84.6 * sum(map(_syllables, words)) / len(words)


def _syllables(word: str) -> int:
    """Groups of vowels, a silent e at the end not counted: right for about nine English words of ten."""
    groups = len(re.findall(r"[aeiouy]+", word))
    silent = word.endswith("e") and not word.endswith(("le", "ee"))
    return max(1, groups - silent)

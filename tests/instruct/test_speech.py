"""The reader speaks where a voice is, keeps the text where none is, and never runs a text as a command."""

from __future__ import annotations

import sys

import pytest

from helpers.errors import InvalidInput
from helpers.instruct import speech

#: A voice that writes what it is given, so that what reached it can be read.
ECHO = "import sys; open(sys.argv[1], 'wb').write(b'RIFF' + sys.stdin.buffer.read())"


@pytest.fixture
def voice(monkeypatch):
    """Installs a Python program as the one voice of this system."""

    def install(program):
        monkeypatch.setattr(speech, "ENGINES", {sys.executable: lambda wav, _: [sys.executable, "-c", program, wav]})

    return install


@pytest.mark.parametrize("text", ["Hello.", '$(rm -rf /); `id` "quoted" -v x', "På en ö. 你好"])
def test_the_text_reaches_the_voice_as_it_is(voice, text):
    voice(ECHO)
    spoken = speech.speak(text)
    assert spoken.wav == b"RIFF" + text.encode()
    assert spoken.note.startswith("read aloud")


def test_a_sound_has_a_player_and_a_text_has_none():
    assert bytes(speech.Spoken("Hi", "say", b"RIFF", "").player().value) == b"RIFF"
    assert speech.Spoken("Hi", None, None, "").player() is None
    assert speech.Spoken("Hi", None, None, "").seconds == 0


def test_without_a_voice_the_text_stays_text(monkeypatch):
    monkeypatch.setattr(speech, "ENGINES", {"no-such-program": list})
    spoken = speech.speak("Hello.")
    assert (spoken.text, spoken.engine, spoken.wav) == ("Hello.", None, None)
    assert "no voice" in spoken.note


@pytest.mark.parametrize(
    ("program", "reason"),
    [("raise SystemExit('no sound card')", "no sound card"), ("pass", "no sound"), ("raise SystemExit(3)", "status 3")],
)
def test_a_voice_that_fails_is_told_and_the_text_kept(voice, program, reason):
    voice(program)
    spoken = speech.speak("Hello.")
    assert spoken.wav is None
    assert reason in spoken.note
    assert spoken.text == "Hello."


@pytest.mark.fault("conversations")
def test_a_voice_that_never_ends_is_stopped(voice, monkeypatch):
    voice("import time; time.sleep(60)")
    monkeypatch.setattr(speech, "VOICE_SECONDS", 0.5)
    assert "TimeoutExpired" in speech.speak("Hello.").note


def test_english_is_spoken_on_every_system():
    short, long = speech.speak("Hello."), speech.speak("Hello, reader – the lamp costs 25 euros. 你好")
    assert (short.engine, long.wav[:4]) == ("hibari", b"RIFF")
    assert 0.3 < short.seconds < long.seconds < 10


@pytest.mark.parametrize("language", ["sv", "zh"])
def test_another_language_takes_a_voice_of_the_system(voice, language):
    assert speech.engine(language) != "hibari"
    voice(ECHO)
    assert speech.speak("Hej.", language).engine == sys.executable


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("",), "nothing to read"),
        (("  \n",), "nothing to read"),
        (("Hello.", ""), "code of a language"),
        (("Hello.", "-w /etc/passwd"), "code of a language"),
        (("Hello.", "english please"), "code of a language"),
    ],
)
def test_what_is_no_text_and_what_is_no_language_is_refused(arguments, reason):
    with pytest.raises(InvalidInput, match=reason):
        speech.speak(*arguments)


def test_the_windows_script_gets_no_text_in_its_command():
    command = speech.ENGINES["powershell"]("speech.wav", "en")
    assert command[:2] == ["powershell", "-NoProfile"]
    assert "ReadToEnd" in command[-1]


def test_syllables_are_counted_by_vowels():
    syllables = {"cat": 1, "table": 2, "make": 1, "reader": 2, "institution": 4, "tree": 1}
    assert {word: speech._syllables(word) for word in syllables} == syllables


def test_short_words_and_sentences_are_easier():
    assert speech.reading_ease("We will pay you. Please write to us.") > 80
    assert speech.reading_ease("Reimbursement notwithstanding, written communication is indispensable.") < 30
    # 6 words, 1 sentence, 6 syllables
    assert speech.reading_ease("The cat sat on the mat.") == pytest.approx(206.835 - 1.015 * 6 - 84.6)


def test_reading_ease_needs_english():
    with pytest.raises(InvalidInput, match="no English word"):
        speech.reading_ease("你好。")

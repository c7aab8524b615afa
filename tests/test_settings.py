"""What is set outside the code: keys in `.env` whatever wrote it, and variables that name certificates."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers import settings
from helpers.errors import InvalidInput

LINES = 'A_KEY=abc-123 # Åsas nyckel\nexport OTHER="x y"\nDOLLAR=a${b}c\n'


@pytest.fixture
def dotenv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(settings, "DOTENV", tmp_path / ".env")
    for variable in ("A_KEY", "OTHER", "DOLLAR"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path / ".env"


@pytest.mark.fault("keys, settings and networks")
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_dotenv_is_read_whatever_wrote_it(dotenv: Path, encoding: str, end: str) -> None:
    dotenv.write_bytes(LINES.replace("\n", end).encode(encoding))
    assert [settings.setting(name) for name in ("A_KEY", "OTHER", "DOLLAR")] == ["abc-123", "x y", "a${b}c"]


@pytest.mark.fault("keys, settings and networks")
def test_what_powershell_appends_to_a_plain_file_is_read(dotenv: Path) -> None:
    dotenv.write_bytes(b"OTHER=1\r\n" + "A_KEY=abc\r\n".encode("utf-16-le"))
    assert (settings.setting("OTHER"), settings.setting("A_KEY")) == ("1", "abc")


def test_the_environment_goes_first_and_blanks_are_nothing(dotenv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dotenv.write_text("A_KEY=file\nOTHER=\n", encoding="utf-8")
    monkeypatch.setenv("OTHER", "  ")
    assert (settings.setting("A_KEY"), settings.setting("OTHER"), settings.setting("DOLLAR")) == ("file", None, None)
    monkeypatch.setenv("A_KEY", "environment\n")
    assert settings.setting("A_KEY") == "environment"


@pytest.mark.fault("keys, settings and networks")
def test_a_dotenv_that_is_a_folder_is_a_sentence(dotenv: Path) -> None:
    dotenv.mkdir()
    with pytest.raises(InvalidInput, match=r"\.env cannot be read"):
        settings.setting("A_KEY")


@pytest.mark.fault("keys, settings and networks")
@pytest.mark.parametrize("variable", [*settings.TRUST_OF_HTTPX, *settings.TRUST_OF_REQUESTS])
def test_certificates_that_are_not_there_are_named(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in settings.TRUST_OF_HTTPX + settings.TRUST_OF_REQUESTS:
        monkeypatch.delenv(name, raising=False)
    assert settings.certificate_troubles() == []
    monkeypatch.setenv(variable, str(tmp_path / "gone"))
    (said,) = settings.certificate_troubles()
    assert said.startswith(variable)
    assert "is not there" in said


@pytest.mark.fault("keys, settings and networks")
def test_a_file_that_holds_no_certificates_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty.pem").touch()
    for named in (tmp_path / "empty.pem", tmp_path):
        monkeypatch.setenv("SSL_CERT_FILE", str(named))
        assert "cannot be read as certificates" in settings.certificate_troubles()[0]


def test_a_file_of_certificates_that_is_spoiled_later_is_told_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "own.pem"
    file.write_bytes((Path(__file__).parent / "faulty_certificate.pem").read_bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    assert settings.certificate_troubles(["SSL_CERT_FILE"]) == []
    file.write_bytes(b"")
    assert len(settings.certificate_troubles(["SSL_CERT_FILE"])) == 1


def test_a_list_of_folders_is_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setenv("SSL_CERT_DIR", os.pathsep.join(["gone", str(tmp_path)]))
    assert settings.certificate_troubles(["SSL_CERT_DIR"]) == []

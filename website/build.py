"""Builds the site, all languages of it, into build/site/html: `python -m website.build [--links]`.

Warnings are errors. What a browser needs beside the pages (MathJax for formulas, Mermaid for diagrams) comes from npm's
packages once, checked against the hashes below, so that no page ever reaches outside. `--links` asks for each address
on the web whether it answers, which the weekly workflow does.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

from babel import Locale

from helpers.course import translation
from helpers.data import ROOT
from helpers.errors import CourseError, DamagedFile
from website import gather, links, tools

SITE = ROOT / "build" / "site"
VENDOR = SITE / "static"
#: Package → its version, the SHA-512 of its archive, and the one file that pages use of it.
PACKAGES = {
    "mathjax": (
        "3.2.2",
        "Bt+SSVU8eBG27zChVewOicYs7Xsdt40qm4+UpHyX7k0/O9NliPc+x77k1/FEsPsjKPZGJvtRZM1vO+geW0OhGw==",
        "package/es5/tex-svg.js",
    ),
    "mermaid": (
        "12.3.0",
        "4113TdXeLAsMruJ79OpFL5O8+LTFXhQqZ260rF3tgUmiNAtRm4Uume04I+65PRN6yZ69J4f8rVYWW8zRk65UYw==",
        "package/dist/mermaid.min.js",
    ),
}


def fetch_package(name: str, version: str, sha512: str, member: str, to: Path) -> Path:
    """One file of an npm package, fetched and checked where it is not here yet: where it lies."""
    file = to / f"{name}-{version}-{Path(member).name}"
    if file.exists():
        return file
    npm = shutil.which("npm")
    if not npm:
        raise CourseError(f"The site needs npm's package {name}, and npm is not here.", "Install Node.js, run again.")
    to.mkdir(parents=True, exist_ok=True)
    command = [npm, "pack", f"{name}@{version}", "--silent", "--pack-destination", str(to)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    archive = to / f"{name}-{version}.tgz"
    if done.returncode or not archive.exists():
        raise CourseError(
            f"npm could not fetch {name}: {done.stderr.strip()[-300:]}", "Check the connection, run again."
        )
    found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != sha512:
        archive.unlink()
        raise DamagedFile(f"npm's {name} {version} is not what was promised.", "It was thrown away; run again.")
    with tarfile.open(archive) as tar:
        inside = tar.extractfile(member)
        file.write_bytes(inside.read() if inside else b"")
    archive.unlink()
    return file


def vendor() -> None:
    """Puts the scripts of others where the site's static files are."""
    folder = VENDOR / "vendor"
    folder.mkdir(parents=True, exist_ok=True)
    for name, (version, sha512, member) in PACKAGES.items():
        shutil.copyfile(fetch_package(name, version, sha512, member, SITE / "npm"), folder / Path(member).name)
    tools.write_scripts(VENDOR)


def repository() -> str:
    """OWNER/NAME on GitHub, by the workflow or by the clone's origin; empty where neither knows."""
    if known := os.environ.get("GITHUB_REPOSITORY"):
        return known
    command = ["git", "-C", str(ROOT), "remote", "get-url", "origin"]
    told = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace").stdout
    found = re.search(r"github\.com[:/]([\w.-]+/[\w.-]+?)(\.git)?\s*$", told)
    return found[1] if found else ""


def sphinx(language: str, builder: str, languages: dict[str, str]) -> subprocess.Popen[bytes]:
    """Sphinx at work on a language's pages."""
    source = SITE / "source" / language
    settings = {
        "COURSE_LANGUAGE": language,
        "COURSE_LANGUAGES": json.dumps(languages),
        "COURSE_REPOSITORY": repository(),
        "COURSE_TITLE": gather.title((source / "index.md").read_text(encoding="utf-8")),
        "COURSE_VENDOR": str(VENDOR),
    }
    command = [sys.executable, "-m", "sphinx", "-b", builder, "-q", "-W", "--keep-going", "-E"]
    command += ["-c", str(ROOT / "website"), "-d", str(SITE / "doctrees" / language), str(source)]
    to = SITE / "html" / language if builder == "html" else SITE / builder / language
    return subprocess.Popen([*command, str(to)], cwd=ROOT, env=os.environ | settings)


def build(builder: str = "html") -> int:
    """Builds every language; 1 where one has a warning or a link that leads nowhere."""
    began = time.monotonic()
    codes = ["en", *translation.translated_languages()] if builder == "html" else ["en"]
    languages = {code: Locale(code).get_display_name(code).capitalize() for code in codes}
    vendor()
    for code in codes:
        gather.gather(code, SITE / "source" / code)
    shutil.rmtree(SITE / "html", ignore_errors=True)
    # Side by side: each takes one core.
    statuses = [child.wait() for child in [sphinx(code, builder, languages) for code in codes]]
    if any(statuses) or builder != "html":
        return max(statuses)
    (SITE / "html" / "index.html").write_text(front_door(languages), encoding="utf-8")
    (SITE / "html" / ".nojekyll").touch()
    faults = links.faults(SITE / "html")
    print("\n".join(faults) or f"The site is whole: {SITE / 'html' / 'index.html'}")
    print(f"{len(list((SITE / 'html').rglob('*.html')))} pages in {time.monotonic() - began:.0f} s")
    return 1 if faults else 0


def front_door(languages: dict[str, str]) -> str:
    """The page at the site's address: it leads to the reader's language, and to English where that is none of these."""
    links = " · ".join(f'<a href="{code}/index.html" lang="{code}">{name}</a>' for code, name in languages.items())
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Small language models, hands on</title>
<script>
const known = {json.dumps([*languages])}.find(code => (navigator.language || "").startsWith(code))
location.replace(`${{known || "en"}}/index.html`)
</script>
<p>{links}</p></html>
"""


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python3 course.py site", description="Build the course's site.")
    parser.add_argument("--links", action="store_true", help="ask whether each address on the web answers")
    asked = parser.parse_args(arguments)
    try:
        return build("linkcheck" if asked.links else "html")
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())

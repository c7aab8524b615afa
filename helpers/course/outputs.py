"""A notebook's outputs as they are committed: nothing that differs between machines or that GitHub cannot draw.

Left out: widgets and their state, progress bars, warnings and other stderr, colours, folders of this machine,
addresses of objects, timings of cells, the version of Python. Plots are stored in a palette, a third of the size.
"""

from __future__ import annotations

import base64
import copy
import html
import io
import json
import re
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

from nbformat import NotebookNode

#: Escape sequences of a terminal: colours, and moves of the cursor.
ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07]*\x07")
#: Somebody's folder on Windows, with whatever separators: a text may come from another machine than this one.
WINDOWS_HOME = re.compile(
    r"(?:\b[A-Z](?::|%3A)|(?:/mnt)?/[A-Z])(?:/|\\+)Users(?:/|\\+)(?:[^\\/:*?\"<>|\r\n]+(?=[\\/])|[\w.~-]+)",
    re.IGNORECASE,
)
ADDRESS = re.compile(r"\b0x[0-9a-f]{8,16}\b")
#: What a cell says of itself: nbval's markers, and in words what its picture shows, for those who cannot see it.
KEPT_METADATA = ("tags", "alt")
WIDGET = "application/vnd.jupyter.widget-view+json"
#: Kinds of data whose text is base64, and so names no folder.
PICTURES = ("image/png", "image/jpeg", "image/gif", "application/pdf")
#: A plot has a handful of colours and their blends; a picture with more than so many is a photograph, and kept.
COLOURS_OF_A_PLOT = 4096


def plain(text: str) -> str:
    """The text without colours, each line as a terminal would leave it after its carriage returns."""
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in ANSI.sub("", text).split("\n"))


def portable(text: str, root: Path) -> str:
    """The text without colours, without this machine's folders, and without addresses of objects."""
    text = plain(text)
    temporary = Path(tempfile.gettempdir())
    places = {str(root): ".", sys.prefix: "env", sys.base_prefix: "env", str(temporary): "tmp"}
    places[str(temporary.resolve())] = "tmp"  # a link on macOS, a short name on Windows
    if Path.home() != Path(Path.home().anchor):
        places[str(Path.home())] = "~"
    # The innermost folders first: the environment may lie in the course, the course in the home folder.
    for place in sorted(places, key=len, reverse=True):
        text = place_pattern(place).sub(lambda _, place=place: places[place], text)  # type: ignore[misc]
    return ADDRESS.sub("0x…", WINDOWS_HOME.sub("~", text))


def place_pattern(place: str) -> re.Pattern[str]:
    """What finds a folder in a text, however it is written there.

    Each name in it may be escaped as in JSON, in an address or in HTML. On a drive of Windows, separators may be
    slashes, backslashes or doubled ones, letters large or small, and the drive named as Unix tools do (/c, /mnt/c).
    """
    drive = re.match(r"([A-Za-z]):", place)
    names = re.split(r"[\\/]+" if drive else "/", place)
    written = [{name, quote(name), json.dumps(name)[1:-1], html.escape(name)} for name in names]
    if drive:
        written[0] = {drive[0], quote(drive[0]), f"/{drive[1]}", f"/mnt/{drive[1]}"}
    separator = r"(?:/|\\+)" if drive else "/"
    pattern = separator.join(f"(?:{'|'.join(sorted(map(re.escape, forms), key=len)[::-1])})" for forms in written)
    # Not in the middle of another name: /root is no part of /rooted.
    return re.compile(pattern + r"(?![\w-])", re.IGNORECASE if drive else 0)


def cleaned(notebook: NotebookNode, root: Path) -> NotebookNode:
    """A copy fit to be committed; cell ids and sources are kept, execution counts run from 1."""
    notebook = copy.deepcopy(notebook)
    notebook.metadata = NotebookNode(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python"},
    )
    count = 0
    for cell in notebook.cells:
        cell.metadata = NotebookNode({key: value for key, value in cell.metadata.items() if key in KEPT_METADATA})
        if cell.cell_type != "code":
            continue
        cell.outputs = [kept for output in cell.outputs if (kept := _clean_output(output, root)) is not None]
        count += bool(cell.source.strip())
        cell.execution_count = count if cell.source.strip() else None
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = count
            if "alt" in cell.metadata and "image/png" in output.get("data", {}):
                output.metadata.setdefault("image/png", NotebookNode())["alt"] = cell.metadata.alt
    return notebook


def _clean_output(output: NotebookNode, root: Path) -> NotebookNode | None:
    """The output as it is stored; None where nothing of it is."""
    if output.output_type == "stream":
        output.text = portable(output.text, root)
        return output if output.name == "stdout" and output.text.strip() else None
    if output.output_type == "error":
        output.evalue = portable(output.evalue, root)
        output.traceback = [portable(line, root) for line in output.traceback]
        return output
    if WIDGET in output.data:
        # The text of a widget is its repr, which says nothing to a reader.
        return None
    output.metadata = NotebookNode({key: value for key, value in output.metadata.items() if key in output.data})
    for kind, value in output.data.items():
        if isinstance(value, str) and kind not in PICTURES:
            output.data[kind] = portable(value, root)
    if "image/png" in output.data:
        output.data["image/png"] = smaller(output.data["image/png"])
        output.data.pop("image/jpeg", None)  # the same picture once more, as IPython gives those of PIL
    return output


def smaller(png: str) -> str:
    """The picture, in base64, in a palette of 128 colours if it is a plot and that makes it smaller."""
    from PIL import Image, UnidentifiedImageError

    try:
        picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    except (UnidentifiedImageError, ValueError):
        return png
    if picture.getcolors(COLOURS_OF_A_PLOT) is None:
        return png
    file = io.BytesIO()
    picture.quantize(128, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return min(png, base64.b64encode(file.getvalue()).decode(), key=len)

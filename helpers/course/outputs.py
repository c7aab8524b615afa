"""A notebook's outputs as they are committed: nothing that differs between machines or that GitHub cannot draw.

Left out: widgets and their state, progress bars, warnings and other stderr, colours, folders of this machine,
addresses of objects, timings of cells, the version of Python. Plots are stored in a palette, a third of the size.
"""

from __future__ import annotations

import base64
import copy
import io
import re
import sys
import tempfile
from pathlib import Path

from nbformat import NotebookNode

#: Escape sequences of a terminal: colours, and moves of the cursor.
ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07]*\x07")
ADDRESS = re.compile(r"\b0x[0-9a-f]{8,16}\b")
WIDGET = "application/vnd.jupyter.widget-view+json"
#: Kinds of data whose text may name a folder.
TEXTS = ("text/plain", "text/html", "text/markdown")
#: A plot has a handful of colours and their blends; a picture with more than so many is a photograph, and kept.
COLOURS_OF_A_PLOT = 4096


def plain(text: str) -> str:
    """The text without colours, each line as a terminal would leave it after its carriage returns."""
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in ANSI.sub("", text).split("\n"))


def portable(text: str, root: Path) -> str:
    """The text without colours, without this machine's folders, and without addresses of objects."""
    text = plain(text)
    # The innermost folders first: the environment may lie in the course, the course in the home folder.
    places = {str(root): ".", sys.prefix: "env", sys.base_prefix: "env", tempfile.gettempdir(): "tmp"}
    if Path.home() != Path(Path.home().anchor):
        places[str(Path.home())] = "~"
    for place in sorted(places, key=len, reverse=True):
        # Not in the middle of another name: /root is no part of /rooted.
        text = re.sub(re.escape(place) + r"(?![\w-])", lambda _, place=place: places[place], text)  # type: ignore[misc]
    return ADDRESS.sub("0x…", text)


def clean(notebook: NotebookNode, root: Path) -> NotebookNode:
    """A copy fit to be committed; cell ids and sources are kept, execution counts run from 1."""
    notebook = copy.deepcopy(notebook)
    notebook.metadata = NotebookNode(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python"},
    )
    count = 0
    for cell in notebook.cells:
        cell.metadata = NotebookNode({key: value for key, value in cell.metadata.items() if key == "tags"})
        if cell.cell_type != "code":
            continue
        cell.outputs = [kept for output in cell.outputs if (kept := _clean_output(output, root)) is not None]
        count += bool(cell.source.strip())
        cell.execution_count = count if cell.source.strip() else None
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = count
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
    for kind in TEXTS:
        if isinstance(output.data.get(kind), str):
            output.data[kind] = portable(output.data[kind], root)
    if "image/png" in output.data:
        output.data["image/png"] = smaller(output.data["image/png"])
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

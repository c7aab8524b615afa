"""A pip that only downloads, from the folder SHOP: copied to pip/__main__.py, it is what `python -m pip` runs.

Each download leaves two lines in the file LOG, when it begins and when it has ended. SAYS makes it fail with these
words, for the requirement FAILS or for all; PAUSE is how many seconds it waits between the two halves of a wheel.
"""

import os
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    requirement, into = sys.argv[2], Path(sys.argv[sys.argv.index("--dest") + 1])
    log, name = Path(os.environ["LOG"]), requirement.partition("==")[0].replace("-", "_")

    def write(event: str) -> None:
        with log.open("a") as file:
            file.write(f"{event} {requirement}\n")

    write("begun")
    if "SAYS" in os.environ and os.environ.get("FAILS", requirement) == requirement:
        sys.exit(os.environ["SAYS"])
    found = list(Path(os.environ["SHOP"]).glob(f"{name}-*.whl"))
    if not found:
        sys.exit(f"ERROR: No matching distribution found for {requirement}")
    content = found[0].read_bytes()
    with (into / found[0].name).open("wb") as wheel:
        wheel.write(content[: len(content) // 2])
        wheel.flush()
        time.sleep(float(os.environ.get("PAUSE", "0")))
        wheel.write(content[len(content) // 2 :])
    write("ended")

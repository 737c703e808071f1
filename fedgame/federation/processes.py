"""Processes of a federation, marked in their environment, so that none of them is left behind."""

import os
import pathlib

MARK = "FEDGAME_FEDERATION"


def marked(folder: pathlib.Path) -> dict[str, str]:
    """The environment that marks processes as belonging to a folder."""
    return {MARK: str(folder.resolve())}


def all_of(mark: dict[str, str]) -> list:
    """All processes with that mark but this one, wherever they were started from."""
    import psutil  # which NVFlare needs

    found = []
    for process in psutil.process_iter(["pid", "environ"]):
        theirs = (process.info["environ"] or {}).get(MARK)
        if process.info["pid"] != os.getpid() and theirs == mark[MARK]:
            found.append(process)
    return found


def end_all(mark: dict[str, str]) -> None:
    """Kills all processes with that mark, and those that they start meanwhile."""
    import psutil

    while found := all_of(mark):
        for process in found:
            try:
                process.kill()
                process.wait(10)
            except (psutil.NoSuchProcess, psutil.TimeoutExpired):
                continue

"""The federation carried by NVFlare: the only file that imports it (`pip install 'fedgame[federation]'`).

A member is a process at her site that answers requests (`Member`), the server a process that conducts the
federation (`Server`). An NVFlare job dies with any of its processes: the ledger is the truth, and `carriers`
starts jobs until the run is over. The file is not called nvflare.py, because NVFlare copies it into the
folder from which a job imports, where it would hide NVFlare itself.
"""

import json
import os
import pathlib
import sys
from collections.abc import Mapping
from concurrent import futures
from typing import Any

import jax
from nvflare.collab import CollabRecipe, collab
from nvflare.collab.api.exceptions import RunAborted
from nvflare.recipe import SimEnv

from fedgame.federation import carriers, conduct, member
from fedgame.federation.carriers import LOG, PLAN
from fedgame.federation.ledger import FILE, Ledger

MEMBER = "FEDGAME_MEMBER"  # environment of a member's kit: the file that `member.save` wrote for her


class Member:
    """A member at her site."""

    def __init__(self, folder: str = ""):
        """Args: folder: of the files of all members, in a simulation; "": `MEMBER` in her environment."""
        self.folder = folder
        self._site: member.Site | None = None

    @collab.publish
    def answer(self, values: dict) -> dict:
        """Answers one request."""
        if self._site is None:
            jax.config.update("jax_enable_x64", True)
            file = os.environ.get(MEMBER) or f"{self.folder}/{collab.site_name}.json"
            path = pathlib.Path(file)
            self._site = member.Site(member.load(path), carriers.logging_to(path.with_suffix(".log")))
        return self._site(values)


class Transport:
    """See `conduct.Transport`: requests to all sites at once, by NVFlare."""

    def __init__(self, sites: Mapping[str, str], timeout: float):
        """Args: sites: of the members, by name; timeout: seconds until an answer counts as missing."""
        self._sites, self._timeout = sites, timeout

    def __call__(
        self, requests: Mapping[str, dict[str, Any]]
    ) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
        there = {client.name: client for client in collab.clients}
        answers, failures = {}, {}
        with futures.ThreadPoolExecutor(len(requests)) as pool:
            calls = {}
            for name, values in requests.items():
                if self._sites[name] in there:
                    proxy = there[self._sites[name]](timeout=self._timeout)
                    calls[name] = pool.submit(proxy.answer, values)
                else:
                    failures[name] = "her site is not connected"
            for name, call in calls.items():
                try:
                    answers[name] = call.result()
                except RunAborted:
                    raise
                except Exception as error:
                    failures[name] = str(error).split("\n")[0]
        return answers, failures


class Server:
    """The server's part of a job."""

    def __init__(self, folder: str, timeout: float):
        """Args: folder: of the federation, with `PLAN` and the ledger; timeout: see `Transport`."""
        self.folder, self.timeout = folder, timeout

    @collab.main
    def conduct(self) -> None:
        """Runs the federation from what its ledger says; what stops it is written to `LOG`."""
        jax.config.update("jax_enable_x64", True)
        folder = pathlib.Path(self.folder)
        tell = carriers.logging_to(folder / LOG)
        plan = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        federation = conduct.Federation.from_dict(plan["federation"])
        transport = Transport(plan["sites"], self.timeout)
        try:
            conduct.run(federation, Ledger(folder / FILE, create=True), transport, conduct.Events(tell))
        except (conduct.Missing, ValueError, RunAborted) as error:
            tell(f"the job stops: {error}")
            raise


def simulate(folder: pathlib.Path, timeout: float) -> None:
    """One job in NVFlare's simulator, in which every member is a process of this machine."""
    sites = list(json.loads((folder / PLAN).read_text(encoding="utf-8"))["sites"].values())
    recipe = CollabRecipe(
        job_name="fedgame",
        server=Server(str(folder), timeout),
        client=Member(str(folder / "members")),
        min_clients=len(sites),
        sync_task_timeout=60,
    )
    recipe.execute(SimEnv(clients=sites, log_config="error", workspace_root=str(folder / "nvflare")))


if __name__ == "__main__":
    simulate(pathlib.Path(sys.argv[1]), float(sys.argv[2]))

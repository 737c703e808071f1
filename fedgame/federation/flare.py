"""The federation carried by NVFlare: the only file that imports it (`pip install 'fedgame[federation]'`).

A member is a process at her site that answers requests (`Member`), the server a process that conducts the
federation (`Server`). An NVFlare job dies with any of its processes: the ledger is the truth, and `carriers`
starts jobs until the run is over. The file is not called nvflare.py, because NVFlare copies it into the
folder from which a job imports, where it would hide NVFlare itself.
"""

import functools
import json
import math
import os
import pathlib
import re
import sys
import time
import uuid
from collections.abc import Mapping
from concurrent import futures
from typing import Any

import jax
import psutil
from nvflare.collab import CollabRecipe, collab
from nvflare.collab.api.exceptions import RunAborted
from nvflare.fuel.flare_api.flare_api import new_secure_session
from nvflare.recipe import ProdEnv, SimEnv

from fedgame import registry
from fedgame.federation import carriers, conduct, kits, member
from fedgame.federation.carriers import JOB, LOG, PLAN
from fedgame.federation.ledger import FILE, Ledger

_CALL = re.compile(r"^call to \S+ failed: ")  # what NVFlare writes before a member's own exception
_BEGINS = 120.0  # seconds until a job that was submitted must have begun


def _begin() -> None:
    """What every process does first."""
    jax.config.update("jax_enable_x64", True)
    for file in filter(None, os.environ.get(carriers.USE, "").split(os.pathsep)):
        registry.use(file)


class Member:
    """A member at her site."""

    def __init__(self, folder: str = ""):
        """Args: folder: of all members' files, in a simulation; "": `kits.MEMBER` in her environment."""
        self.folder = folder
        self._site: member.Site | None = None

    @collab.publish
    def answer(self, values: dict) -> dict:
        """Answers one request."""
        if self._site is None:
            _begin()
            file = os.environ.get(kits.MEMBER) or f"{self.folder}/{collab.site_name}.json"
            path = pathlib.Path(file)
            keep = functools.partial(member.save_model, path) if not self.folder else lambda model: None
            self._site = member.Site(member.load(path), carriers.logging_to(path.with_suffix(".log")), keep)
        return self._site(values)


class Transport:
    """See `conduct.Transport`: requests to all sites at once, by NVFlare.

    Who has not answered in time is not asked again: a site that was started anew is not part of the job.
    """

    def __init__(self, sites: Mapping[str, str], timeout: float):
        """Args: sites: of the members, by name; timeout: seconds until an answer counts as missing."""
        self._sites, self._timeout = sites, timeout
        self._gone: dict[str, str] = {}  # by name of the member, why

    def __call__(
        self, requests: Mapping[str, dict[str, Any]]
    ) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
        there = {client.name: client for client in collab.clients}
        answers, failures, calls = {}, {}, {}
        with futures.ThreadPoolExecutor(len(requests)) as pool:
            for name, values in requests.items():
                if self._sites[name] not in there:
                    failures[name] = "her site is not connected"
                elif name in self._gone:
                    failures[name] = self._gone[name]
                else:
                    proxy = there[self._sites[name]](timeout=self._timeout)
                    calls[name] = pool.submit(proxy.answer, values)
        for name, call in calls.items():
            try:
                answers[name] = call.result()
            except RunAborted:
                raise
            except Exception as error:
                failures[name] = _CALL.sub("", str(error).strip().split("\n")[-1])
                if "timed out" in failures[name]:
                    failures[name] = self._gone[name] = f"her site does not answer within {self._timeout:g} s"
        return answers, failures


class Server:
    """The server's part of a job."""

    def __init__(self, folder: str, timeout: float, job_name: str):
        """Args: folder: of the federation; timeout: see `Transport`; job_name: of the job, see `JOB`."""
        self.folder, self.timeout, self.job_name = folder, timeout, job_name

    @collab.main
    def conduct(self) -> None:
        """Runs the federation from what its ledger says; what stops it is written to the log."""
        _begin()
        folder = pathlib.Path(self.folder)
        tell, job = carriers.logging_to(folder / LOG), folder / JOB
        about = {"job_name": self.job_name, "process": os.getpid(), "ended": False}
        job.write_text(json.dumps(about))
        plan = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        federation = conduct.Federation.from_dict(plan["federation"])
        transport = Transport(plan["sites"], self.timeout)
        try:
            conduct.run(federation, Ledger(folder / FILE, create=True), transport, conduct.Events(tell))
        except Exception as error:
            tell(f"the job stops: {error}")
            about |= {"wrong": str(error)} if isinstance(error, ValueError) else {}
            raise
        finally:
            job.write_text(json.dumps(about | {"ended": True}))


def _recipe(
    folder: pathlib.Path, timeout: float, job_name: str, least: int, members: str = ""
) -> CollabRecipe:
    """A job that goes on with the federation if at least so many sites are there."""
    return CollabRecipe(
        job_name="fedgame",
        server=Server(str(folder.resolve()), timeout, job_name),
        client=Member(members),
        min_clients=least,
        sync_task_timeout=max(60, math.ceil(timeout)),  # for all sites to have started their processes
    )


def simulate(folder: pathlib.Path, timeout: float) -> None:
    """One job in NVFlare's simulator, in which every member is a process of this machine."""
    sites = list(json.loads((folder / PLAN).read_text(encoding="utf-8"))["sites"].values())
    members = str((folder / "members").resolve())
    recipe = _recipe(folder, timeout, uuid.uuid4().hex, len(sites), members)
    root = str(folder.resolve() / "nvflare")
    recipe.execute(SimEnv(clients=sites, log_config="error", workspace_root=root))


def submit(folder: pathlib.Path, timeout: float, kit: pathlib.Path) -> None:
    """One job on a server that runs; returns when it has ended, whatever ended it.

    It is also ended if a site is back whose member was absent, so that the next job includes her.

    Args:
      folder: of the federation, on the server's machine, which is this one.
      timeout: seconds to wait for sites, and for an answer.
      kit: the administrator's.
    """
    plan = json.loads((folder / PLAN).read_text(encoding="utf-8"))
    ledger, tell = Ledger(folder / FILE, create=True), carriers.logging_to(folder / LOG)
    sites = {site: name for name, site in plan["sites"].items()}
    wanted = len(sites) if ledger.agreed is None or plan["federation"]["absent"] == conduct.WAIT else 1
    there = _wait_for(sites, wanted, kit, timeout)
    if len(there) < wanted:
        missing = ", ".join(f"{name} ({site})" for site, name in sites.items() if site not in there)
        tell(f"waiting for the sites of {missing}")
        return
    job_name = uuid.uuid4().hex
    environment = ProdEnv(startup_kit_location=str(kit), login_timeout=10.0, username=kits.ADMIN)
    run = _recipe(folder, timeout, job_name, wanted).execute(environment)
    begun, seen = time.monotonic(), {}
    while not _over(folder, job_name, time.monotonic() - begun):
        time.sleep(1.0)
        if back := _back(ledger, sites, kit, seen):
            tell(f"{', '.join(back)}: back, and part of the next job")
            run.abort()
            return


def _over(folder: pathlib.Path, job_name: str, seconds: float) -> bool:
    """Whether a job that was submitted so long ago has ended, or will not begin any more."""
    job = folder / JOB
    told = json.loads(job.read_text(encoding="utf-8")) if job.exists() else {}
    if told.get("job_name") != job_name:
        return seconds > _BEGINS
    return told["ended"] or not psutil.pid_exists(told["process"])


def _back(ledger: Ledger, sites: Mapping[str, str], kit: pathlib.Path, seen: dict[str, float]) -> list[str]:
    """The members who were absent from the last round, and whose sites have been connected for a while.

    A site that has died counts as connected until the server misses its signs of life. `seen` keeps since
    when each has been absent and connected.
    """
    absent = ledger.absent
    if not absent:
        seen.clear()
        return []
    now, there = time.monotonic(), {sites[site] for site in _connected(kit, sites)}
    for name in absent:
        if name in there:
            seen.setdefault(name, now)
        else:
            seen.pop(name, None)
    return [name for name in seen if name in absent and now - seen[name] > 1.5 * kits.HEARTBEAT]


def _connected(kit: pathlib.Path, sites: Mapping[str, str]) -> set[str]:
    """The sites that are connected to the server; none if it does not answer."""
    try:
        session = new_secure_session(kits.ADMIN, str(kit), timeout=10.0)
    except Exception:  # whatever is wrong with the server, it may be right in a moment
        return set()
    try:
        return {client.name for client in session.get_system_info().client_info} & set(sites)
    except Exception:
        return set()
    finally:
        session.close()


def _wait_for(sites: Mapping[str, str], wanted: int, kit: pathlib.Path, seconds: float) -> set[str]:
    """The sites that are connected once all are, or at least `wanted` of them after so many seconds."""
    end = time.monotonic() + seconds
    there = _connected(kit, sites)
    while len(there) < len(sites) and time.monotonic() < end:
        time.sleep(1.0)
        there = _connected(kit, sites)
    return there


if __name__ == "__main__":
    mode, place, patience, *kit_of_admin = sys.argv[1:]
    if mode == "simulate":
        simulate(pathlib.Path(place), float(patience))
    else:
        submit(pathlib.Path(place), float(patience), pathlib.Path(kit_of_admin[0]))

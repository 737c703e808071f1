"""NVFlare's startup kits: made for a federation, and started and ended on this machine.

A kit is a folder with certificates and scripts, one for the server, one for every site and one for the
administrator who submits jobs. On real hosts each party gets hers, see docs/federation.md.
"""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from fedgame.federation import processes

MEMBER = "FEDGAME_MEMBER"  # in the environment of a member's kit: the file that `member.save` wrote for her
ADMIN, LOCAL = "admin@fedgame.org", "localhost"
_PROJECT = """\
api_version: 3
name: fedgame
participants:
  - {{name: {host}, type: server, org: fedgame, fed_learn_port: {port}, admin_port: {admin_port}}}
{sites}
  - {{name: {admin}, type: admin, org: fedgame, role: project_admin}}
builders:
  - path: nvflare.lighter.impl.workspace.WorkspaceBuilder
  - path: nvflare.lighter.impl.static_file.StaticFileBuilder
    args: {{config_folder: config, scheme: grpc}}
  - path: nvflare.lighter.impl.cert.CertBuilder
  - path: nvflare.lighter.impl.signature.SignatureBuilder
"""
HEARTBEAT = 30  # seconds without a sign of life after which the server counts a site as gone


def project(sites: Sequence[str], host: str, port: int, admin_port: int) -> str:
    """The text of project.yml, from which `nvflare provision` makes the kits."""
    lines = "\n".join(f"  - {{name: {site}, type: client, org: fedgame}}" for site in sites)
    return _PROJECT.format(host=host, port=port, admin_port=admin_port, sites=lines, admin=ADMIN)


def provision(folder: pathlib.Path, sites: Sequence[str], host: str = LOCAL) -> pathlib.Path:
    """Makes the kits below a folder, unless they are there; returns the folder that holds them.

    A server that is called localhost listens there only.

    Raises:
      ValueError: NVFlare cannot make them.
    """
    made = folder / "fedgame" / "prod_00"
    if made.is_dir():
        return made
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # for the private keys of all are in it
    (folder / "project.yml").write_text(project(sites, host, *_free_ports()), encoding="utf-8")
    command = [sys.executable, "-m", "nvflare.cli", "provision", "-p", "project.yml", "-w", "."]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if not made.is_dir():
        raise ValueError(f"NVFlare cannot make startup kits: {done.stdout.strip()} {done.stderr.strip()}")
    storage = folder.resolve() / "storage"  # of jobs: by default it is outside of the folder
    about = _resources(made / host)
    about["servers"][0]["heart_beat_timeout"] = HEARTBEAT
    about["snapshot_persistor"]["args"]["storage"]["args"]["root_dir"] = str(storage / "snapshots")
    (jobs,) = (component for component in about["components"] if component["id"] == "job_manager")
    jobs["args"]["uri_root"] = str(storage / "jobs")
    _set_resources(made / host, about)
    for site in sites:  # or what goes wrong at a member's would be told in her server's logs
        _set_resources(made / site, _resources(made / site) | {"allow_log_streaming": False})
    return made


def _resources(kit: pathlib.Path) -> dict[str, Any]:
    """What NVFlare has by default in `local/resources.json` of a kit."""
    return json.loads((kit / "local" / "resources.json.default").read_text(encoding="utf-8"))


def _set_resources(kit: pathlib.Path, about: dict[str, Any]) -> None:
    """Replaces what a kit has by default."""
    (kit / "local" / "resources.json").write_text(json.dumps(about, indent=1), encoding="utf-8")


def _free_ports() -> list[int]:
    """Two ports of this machine that nobody uses."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(2)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def start(kit: pathlib.Path, environment: dict[str, str]) -> None:
    """Starts the server or the site of a kit, and a watchdog that starts it again when it dies."""
    for left in ("daemon_pid.fl", "pid.fl", "shutdown.fl"):  # of a process that was killed
        (kit / left).unlink(missing_ok=True)
    for log in ("log.txt", "console.log"):  # what they say is of this start alone
        if (kit / log).exists():
            (kit / log).replace(kit / f"before_{log}")
    first = pathlib.Path(sys.executable).parent  # scripts call python3
    path = os.pathsep.join([str(first), environment.get("PATH", "")])
    with (kit / "console.log").open("ab") as log:
        subprocess.Popen(
            ["bash", str(kit / "startup" / "sub_start.sh")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment | {"PATH": path},
            start_new_session=True,
        )


@contextlib.contextmanager
def running(
    folder: pathlib.Path, sites: Sequence[str], environment: dict[str, str], host: str | None = None
) -> Iterator[pathlib.Path]:
    """The kits of a federation, of which the server's runs on this machine until the end.

    Args:
      folder: of the federation; kits are below it, and what members have is in `members/`.
      sites: their names.
      environment: of all processes.
      host: how members reach this machine, and start their sites themselves; None: they run here, too.

    Yields:
      The folder of the kits.
    """
    mark = processes.marked(folder / "kits")
    made = provision(folder / "kits", sites, host or LOCAL)
    try:
        start(made / (host or LOCAL), environment | mark)
        for site in sites if host is None else ():
            start_site(folder, site, environment)
        yield made
    finally:
        processes.end_all(mark)


def start_site(folder: pathlib.Path, site: str, environment: dict[str, str]) -> None:
    """Starts one site of `running`, which knows what its member has."""
    hers = {MEMBER: str((folder / "members" / f"{site}.json").resolve())}
    kit = folder / "kits" / "fedgame" / "prod_00" / site
    start(kit, environment | processes.marked(folder / "kits") | hers)


def wait_until_registered(kit: pathlib.Path, seconds: float, stop: threading.Event) -> None:
    """Waits until the server has let a site in that was just started; NVFlare would try for ever in silence.

    Args:
      kit: of the site.
      seconds: to wait.
      stop: once set, nothing is waited for.

    Raises:
      ValueError: it has not, and why, as far as that can be told.
    """
    log, end = kit / "log.txt", time.monotonic() + seconds
    while not (log.exists() and "Successfully registered client" in log.read_text(errors="replace")):
        if stop.wait(0.5):
            return
        if time.monotonic() > end:
            target, reason = _refusal(kit)
            raise ValueError(f"{kit.name} was not let in by {target} within {seconds:g} s: {reason}")


def _refusal(kit: pathlib.Path) -> tuple[str, str]:
    """Where a site looks for its server, and why that does not let it in, as far as that can be told."""
    target = server_of(kit)
    if "CERTIFICATE_VERIFY_FAILED" in (kit / "console.log").read_text(errors="replace"):
        return target, "its certificate and that of this kit are not of one federation"
    if not answers(target):
        return target, "nothing answers there: is the server running, and its port open?"
    return target, "it answers, and does not accept the certificate of this kit"


def server_of(kit: pathlib.Path) -> str:
    """Where the site of a kit looks for its server, HOST:PORT."""
    told = json.loads((kit / "startup" / "fed_client.json").read_text(encoding="utf-8"))
    return told["servers"][0]["service"]["target"]


def answers(target: str) -> bool:
    """Whether somebody listens at HOST:PORT."""
    host, _, port = target.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError:
        return False
    return True


def lost_since(target: str, lost: float | None, seconds: float) -> float | None:
    """The time since when a server does not answer, None if it does; prints when that changes.

    Args:
      target: HOST:PORT.
      lost: what this said before; None at first.
      seconds: how long it is waited for.

    Raises:
      ValueError: that is longer ago.
    """
    if answers(target):
        if lost is not None:
            print(f"{target} answers again", flush=True)
        return None
    if lost is None:
        print(f"nothing answers at {target} any more: waiting for it for {seconds:g} s", flush=True)
        return time.monotonic()
    if time.monotonic() - lost > seconds:
        raise ValueError(
            f"{target} has not answered for {seconds:g} s: ask whoever runs it whether the run is over; if "
            "it is not, the same command takes part again"
        )
    return lost

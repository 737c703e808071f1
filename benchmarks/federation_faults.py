"""Kills parts of a federation between real processes at random moments, and looks at what comes of it.

  python benchmarks/federation_faults.py --kills=20      # about a minute each, with NVFlare installed

Every case is a run of `launch.federation --poc` in which, once a random round is settled, one thing dies by
SIGKILL: a member's worker, her whole site, which comes back or does not, the server's job, the server, or the
command itself, which is then resumed; or a site is cut off the network for 30 seconds, by a proxy that drops
what it is sent. A case is right if the command ends well, the ledger is consistent and every round is settled
exactly once, the model and the balances are those of an undisturbed run that lost the same members in the
same rounds, and no process is left.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import psutil
from absl import app, flags

from fedgame.federation import carriers, conduct, kits, ledger, member, messages, processes

KILLS = flags.DEFINE_integer("kills", 20, "number of cases", 1)
SEED = flags.DEFINE_integer("seed", 0, "of what dies when", 0)
KIND = flags.DEFINE_string("kind", None, "only this kind of case")
WORKDIR = flags.DEFINE_string("workdir", "results/federation_faults", "where the runs are left")

KINDS = ("worker", "site, back", "site, gone", "job", "server", "command", "cut")
ROUNDS, MEMBERS = 12, 4
FLAGS = [
    "--poc", "--patience=15", f"--rounds={ROUNDS}", f"--agents={MEMBERS}", "--model=linear",
    "--protocol=fedbr(falkinger, steps=10)",
]  # fmt: skip


def main(argv: list[str]) -> None:
    jax.config.update("jax_enable_x64", True)
    rng = np.random.default_rng(SEED.value)
    root, wrong = pathlib.Path(WORKDIR.value), 0
    print(
        f"{'what dies':<12} {'after round':>11} {'seconds':>8} {'jobs':>5}  {'left out':<28} verdict",
        flush=True,
    )
    for number in range(KILLS.value):
        kind = KIND.value or KINDS[number % len(KINDS)]
        moment, site = int(rng.integers(0, ROUNDS - 1)), f"site-{rng.integers(MEMBERS) + 1}"
        work = root / f"{number}"
        shutil.rmtree(work, ignore_errors=True)
        begin = time.monotonic()
        code = run(work, kind, moment, site, float(rng.uniform(0, 0.5)))
        faults = faults_of(work / "federation", code)
        wrong += bool(faults)
        jobs, left = jobs_of(work / "federation"), left_out(work / "federation")
        seconds = time.monotonic() - begin
        verdict = "; ".join(faults) or "right"
        print(f"{kind:<12} {moment:>11} {seconds:>8.0f} {jobs:>5}  {left:<28} {verdict}", flush=True)
    print(f"{KILLS.value - wrong} of {KILLS.value} cases are right")
    sys.exit(bool(wrong))


def run(work: pathlib.Path, kind: str, moment: int, site: str, delay: float) -> int:
    """One case; returns how the command ended."""
    folder, cut = work / "federation", threading.Event()
    sites = [f"site-{i + 1}" for i in range(MEMBERS)]
    prepared = work.with_name(f"{work.name}_kits")
    if kind == "cut":
        shutil.rmtree(prepared, ignore_errors=True)
        made = kits.provision(prepared, sites)
        through_proxy(made / site / "startup" / "fed_client.json", cut)
    command = [sys.executable, "-m", "launch.federation", f"--workdir={work}", *FLAGS]
    begun = start(command, work)
    if kind == "cut":  # before the command makes kits itself, which takes a few seconds
        while not (work / "config.json").exists():
            time.sleep(0.005)
        folder.mkdir(exist_ok=True)
        prepared.rename(folder / "kits")
    if wait_for(folder, moment, begun):
        time.sleep(delay)
        if kind == "command":
            begun.kill()
            begun.wait()
            begun = start([*command, "--resume"], work)
        elif kind == "cut":
            cut.set()
            time.sleep(30)
            cut.clear()
        else:
            kill(folder, kind, site)
    return begun.wait(900)


def start(command: list[str], work: pathlib.Path) -> subprocess.Popen:
    """The command, with what it prints in a file beside its results."""
    work.parent.mkdir(parents=True, exist_ok=True)
    with work.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def wait_for(folder: pathlib.Path, moment: int, begun: subprocess.Popen) -> bool:
    """Whether a round has been settled while the command runs; waits for that."""
    while begun.poll() is None:
        with contextlib.suppress(FileNotFoundError, ValueError):  # not yet begun
            opened = ledger.Ledger(folder / ledger.FILE)
            if opened.agreed is not None and opened.settled >= moment:
                return True
        time.sleep(0.02)
    return False


def kill(folder: pathlib.Path, kind: str, site: str) -> None:
    """Kills what a case is about; "site, back" starts it again after five seconds."""
    found = processes.all_of(processes.marked(folder / "kits"))
    words = {
        "worker": rf"client.worker_process .*-c {site}(\s|$)",
        "job": "server.runner_process",
        "server": "server.server_train",
    }.get(kind, f"/{site}(/| |$)")
    killed = 0
    for process in found:
        try:
            if re.search(words, " ".join(process.cmdline())):
                process.kill()
                killed += 1
        except psutil.NoSuchProcess:
            continue
    if not killed:
        raise RuntimeError(f"there is no process {words}")
    if kind == "site, back":
        time.sleep(5)
        kits.start_site(folder, site, dict(os.environ))


def through_proxy(config: pathlib.Path, cut: threading.Event) -> None:
    """Has a site reach its server through a proxy, which drops everything while `cut` is set."""
    told = config.read_text(encoding="utf-8")
    port = int(re.search(r"localhost:(\d+)", told)[1])
    listening = socket.create_server(("127.0.0.1", 0))
    config.write_text(told.replace(f"localhost:{port}", f"localhost:{listening.getsockname()[1]}"))

    def forward(a: socket.socket, b: socket.socket) -> None:
        try:
            while data := a.recv(65536):
                if not cut.is_set():
                    b.sendall(data)
        except OSError:
            pass
        for one in (a, b):
            one.close()

    def serve() -> None:
        while True:
            near, _ = listening.accept()
            try:
                far = socket.create_connection(("127.0.0.1", port))
            except OSError:  # the server is not there yet
                near.close()
                continue
            for pair in ((near, far), (far, near)):
                threading.Thread(target=forward, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()


def faults_of(folder: pathlib.Path, code: int) -> list[str]:
    """What is wrong after a case."""
    found = [] if code == 0 else [f"the command ended with {code}"]
    opened = ledger.Ledger(folder / ledger.FILE)
    found += ledger.complaints(opened)
    rounds = [entry.round for entry in opened.entries() if entry.kind == ledger.MEMBER and entry.member == ""]
    if rounds != list(range(1, ROUNDS + 1)) or not opened.finished:
        found.append(f"settled are the rounds {rounds}")
    if not found and replayed(folder, opened) != (messages.digest_of(opened.model()), opened.balances()):
        found.append("an undisturbed run that lost the same members has another model or other balances")
    left = processes.all_of(processes.marked(folder)) + processes.all_of(processes.marked(folder / "kits"))
    return found + [f"process {process.pid} is left" for process in left]


def replayed(folder: pathlib.Path, opened: ledger.Ledger) -> tuple[str, dict[str, int]]:
    """The model and the balances of a run in this process that loses the same members in the same rounds."""
    plan = json.loads((folder / carriers.PLAN).read_text(encoding="utf-8"))
    federation = conduct.Federation.from_dict(plan["federation"])
    lost = {(e.member, e.round) for e in opened.entries() if e.about.get("reason")}

    def losing(name: str, site: member.Site):
        def answer(values: dict) -> dict:
            if values["kind"] == "Train" and (name, values["round"]) in lost:
                raise ConnectionError("as then")
            return site(values)

        return answer

    sites = {
        name: losing(name, member.Site(member.load(folder / "members" / f"{site}.json")))
        for name, site in plan["sites"].items()
    }
    file = folder / "replayed.sqlite"
    file.unlink(missing_ok=True)
    again = ledger.Ledger(file, create=True)
    first = messages.to_arrays(conduct.server.initial_model(federation.training))
    again.agree(opened.agreed, first)
    conduct.run(federation, again, conduct.InProcess(sites))
    return messages.digest_of(again.model()), again.balances()


def jobs_of(folder: pathlib.Path) -> int:
    """How many jobs the run needed."""
    log = folder / carriers.LOG
    return 1 + (log.read_text(encoding="utf-8").count("another one goes on") if log.exists() else 0)


def left_out(folder: pathlib.Path) -> str:
    """Who was left out of which rounds."""
    found: dict[str, list[int]] = {}
    for entry in ledger.Ledger(folder / ledger.FILE).entries():
        if entry.about.get("reason"):
            found.setdefault(entry.member, []).append(entry.round)
    return ", ".join(f"{name}: {min(x)}-{max(x)} ({len(x)})" for name, x in found.items()) or "nobody"


if __name__ == "__main__":
    app.run(main)

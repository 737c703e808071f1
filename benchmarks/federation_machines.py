"""Runs the federation of docs/federation.md, section "On several machines", between five machines of Linux.

  sudo python benchmarks/federation_machines.py      # two to three minutes; needs root, and NVFlare

A machine is a set of namespaces: a network of its own with an address of its own, its own processes, its own
name, and its own files, among which are not those of the others. They are joined by a switch. Each of four
hospitals has only her table. What parties send to each other, statistics, what was agreed, and startup kits,
is copied from folder to folder, as it would be by mail. While it runs, one hospital is cut off for a while.
At the end the ledger must be consistent, and every member must have heard the digest in which it ends.
"""

import contextlib
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator

from absl import app, flags

from fedgame.federation import ledger, statements

ROUNDS = flags.DEFINE_integer("rounds", 20, "rounds of training", 5)
CUT = flags.DEFINE_float("cut", 20.0, "seconds for which one hospital is cut off; 0: none is", 0)
ABSENT = flags.DEFINE_string("absent", "wait", "what a round does without her: wait or go_on")
WORKDIR = flags.DEFINE_string("workdir", "results/federation_machines", "where the machines' files are")

ROOT = pathlib.Path(__file__).resolve().parent.parent
NAMES = ("Budapest", "Cleveland", "Long Beach", "Zurich/Basel")
COSTS = (20, 25, 20, 30)  # per record, EUR
SERVER, DOMAIN, SUBNET = "server", "fedgame.test", "10.213.7"
SWITCH = "fedgame-switch"


class Machine:
    """A machine: `folder` is all that it sees of the folder of machines, as `/srv`."""

    def __init__(self, name: str, number: int, folder: pathlib.Path):
        self.name, self.namespace, self.number = name, f"fedgame-{name}", number
        self.address, self.folder = f"{SUBNET}.{number}", folder / name
        self.folder.mkdir(parents=True)

    def start(self, *words: str, log: str) -> subprocess.Popen:
        """Starts a command there, in `/srv`, with what it prints in a file there."""
        inside = (
            f"hostname {self.name}; mount --bind '{self.folder}' /srv; "
            f"mount -t tmpfs none '{self.folder.parent}'; cd /srv; HOME=/srv exec \"$@\""
        )
        own = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--uts"]
        line = ["ip", "netns", "exec", self.namespace, *own, "bash", "-ec", inside, "-"]
        with (self.folder / log).open("ab") as file:
            return subprocess.Popen(
                [*line, sys.executable, "-m", *words], stdin=subprocess.DEVNULL, stdout=file, stderr=file
            )

    def run(self, *words: str) -> None:
        """Runs a command there to its end."""
        if self.start(*words, log="printed.txt").wait():
            raise RuntimeError(
                f"{' '.join(words)} on {self.name}: {(self.folder / 'printed.txt').read_text()}"
            )


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@contextlib.contextmanager
def joined(machines: list[Machine]) -> Iterator[None]:
    """The machines have addresses, and know each other's names, until the end."""
    hosts = "127.0.0.1 localhost\n" + "".join(f"{m.address} {m.name}.{DOMAIN}\n" for m in machines)
    namespaces = [SWITCH, *(machine.namespace for machine in machines)]
    try:
        for namespace in namespaces:
            ip("netns", "add", namespace)
        ip("-n", SWITCH, "link", "add", "bridge", "type", "bridge")
        ip("-n", SWITCH, "link", "set", "bridge", "up")
        for machine in machines:
            settings = pathlib.Path("/etc/netns") / machine.namespace  # put over /etc by `ip netns exec`
            settings.mkdir(parents=True, exist_ok=True)
            (settings / "hosts").write_text(hosts)
            port = f"port{machine.number}"
            peer = ["peer", "name", "eth0", "netns", machine.namespace]
            ip("-n", SWITCH, "link", "add", port, "type", "veth", *peer)
            ip("-n", SWITCH, "link", "set", port, "master", "bridge", "up")
            ip("-n", machine.namespace, "address", "add", f"{machine.address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                ip("-n", machine.namespace, "link", "set", device, "up")
        yield
    finally:
        for namespace in namespaces:
            subprocess.run(["ip", "netns", "delete", namespace], check=False)
            shutil.rmtree(pathlib.Path("/etc/netns") / namespace, ignore_errors=True)


def agree(server: Machine, members: list[Machine]) -> None:
    """Members tell what their columns are like, and all get what follows; and what the game is."""
    (server.folder / "told").mkdir()
    for name, machine in zip(NAMES, members, strict=True):
        file = f"{urllib.parse.quote(name, safe=' ')}.csv"
        shutil.copy(ROOT / "examples" / "hospitals" / file, machine.folder / "hers.csv")
        machine.run("launch.member", "--data=hers.csv", "--statistics=told.json")
        told = pathlib.Path(file).with_suffix(".json")
        shutil.copy(machine.folder / "told.json", server.folder / "told" / told)
    server.run("launch.agree", "--statistics=told", "--workdir=agreed")
    shutil.copy(ROOT / "examples" / "hospitals" / "agents.csv", server.folder / "agents.csv")
    curve = "--payoff=power(best=0.85, scale=0.6, exponent=0.6, shift=4)"
    server.run("launch.equilibrium", "--agents=agents.csv", curve, "--workdir=game")
    for machine in members:
        shutil.copytree(server.folder / "agreed", machine.folder / "agreed")


def take_part(server: Machine, members: list[Machine]) -> list[subprocess.Popen]:
    """Starts the server, sends the kits, and starts every member; the server is first."""
    address = f"--server={server.name}.{DOMAIN}"
    agreed = ["--like=agreed", "--scenario=game/scenario.json", "--protocol=fedbr(falkinger, steps=20)"]
    more = [
        "--currency=EUR",
        f"--rounds={ROUNDS.value}",
        "--patience=20",
        f"--absent={ABSENT.value}",
        "--workdir=run",
    ]
    running = [server.start("launch.federation", address, *agreed, *more, log="printed.txt")]
    kits = server.folder / "run" / "federation" / "kits" / "fedgame" / "prod_00"
    while not (kits / f"site-{len(members)}" / "local" / "resources.json").exists():
        if running[0].poll() is not None:
            raise RuntimeError((server.folder / "printed.txt").read_text())
        time.sleep(0.2)
    time.sleep(1.0)
    for k, machine in enumerate(members):
        shutil.copytree(kits / f"site-{k + 1}", machine.folder / "kit")
        cost = ["--like=agreed", "--data=hers.csv", f"--cost=linear(rate={COSTS[k]})", "--value=60000"]
        cost += [f"--name={NAMES[k]}", "--most_paid=3000"]
        machine.run("launch.member", *cost, "--out=hers.json")
        words = ["--member=hers.json", "--kit=kit", "--patience=60", "--wait=60"]
        running.append(machine.start("launch.member", *words, log="printed.txt"))
    return running


def settled(server: Machine) -> int:
    """Rounds that are settled; -1 before the ledger is there."""
    file = server.folder / "run" / "federation" / ledger.FILE
    with contextlib.suppress(FileNotFoundError, ValueError):
        return ledger.Ledger(file).settled
    return -1


def cut_off(server: Machine, machine: Machine, begun: subprocess.Popen) -> None:
    """Takes the cable of a machine out for a while, once a few rounds are settled."""
    while settled(server) < ROUNDS.value // 4 and begun.poll() is None:
        time.sleep(0.1)
    ip("-n", SWITCH, "link", "set", f"port{machine.number}", "down")
    time.sleep(CUT.value)
    ip("-n", SWITCH, "link", "set", f"port{machine.number}", "up")


def main(argv: list[str]) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # or namespaces would stay
    folder = pathlib.Path(WORKDIR.value).resolve()
    shutil.rmtree(folder, ignore_errors=True)
    server = Machine(SERVER, 1, folder)
    members = [Machine(f"hospital{k + 1}", k + 2, folder) for k in range(len(NAMES))]
    begin = time.monotonic()
    with joined([server, *members]):
        agree(server, members)
        print(f"agreed after {time.monotonic() - begin:.0f} s", flush=True)
        running = take_part(server, members)
        try:
            if CUT.value:
                cut_off(server, members[1], running[0])
            codes = [process.wait(600) for process in running]
        finally:
            for process in running:
                process.kill()
    print(f"done after {time.monotonic() - begin:.0f} s; exit codes {codes}")
    sys.exit(any(codes) or not right(server, members))


def right(server: Machine, members: list[Machine]) -> bool:
    """Whether the ledger is consistent, and every member has heard how it ends; tells what is in it."""
    opened = ledger.Ledger(server.folder / "run" / "federation" / ledger.FILE)
    wrong = ledger.complaints(opened)
    agreement, entries = ledger.agreement_of(opened), opened.entries()
    rows = statements.member_rows(entries, agreement)
    told = [f"{row['name']} {row['rounds']} rounds {row['received']:.2f}" for row in rows]
    print(f"{opened.settled} rounds settled: {', '.join(told)}")
    # Members' last word, how good the final model is for them, is entered after what they have heard.
    last = [entry.digest for entry in entries if entry.kind != ledger.FINAL][-1]
    for machine in members:
        _, heard = statements.heard((machine.folder / "hers.log").read_text())[-1]
        if heard != last:
            wrong.append(f"{machine.name} has heard {heard}, not {last}")
    print("\n".join(wrong) or "the ledger is consistent, and all have heard how it ends")
    return not wrong


if __name__ == "__main__":
    app.run(main)

"""Seconds and bytes of a round of a federation: in one process, by NVFlare, and NVFlare's own FedAvg.

  python benchmarks/federation.py                        # four members, with NVFlare installed
  python benchmarks/federation.py --members=50 --models=linear --rounds=5

All sides train the same networks on the same digits, ten images of each member a round. A round of fedgame's
has two exchanges, the training and the statement of what was settled; one of NVFlare's FedAvg has one, and
nobody is paid. Seconds are medians after the first two rounds, from one settled round to the next; bytes are
all that went through the loopback device meanwhile; memory is the largest sum over all processes.
"""

import contextlib
import json
import pathlib
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import psutil
from absl import app, flags

MEMBERS = flags.DEFINE_integer("members", 4, "number of members", 2)
ROUNDS = flags.DEFINE_integer("rounds", 20, "rounds of every side", 4)
MODELS = flags.DEFINE_list("models", ["linear", "cnn"], "networks")
SIDES = flags.DEFINE_list("sides", ["process", "simulate", "poc", "fedavg"], "which sides")
WORKDIR = flags.DEFINE_string("workdir", "results/federation_speed", "where the runs are left")

CLIENT = """
import pathlib, sys, time
import jax, numpy as np
import nvflare.client as flare
from nvflare.app_common.abstract.fl_model import FLModel
from fedgame.federation import conduct, member, messages
import json

folder = pathlib.Path(sys.argv[1])
flare.init()
site = flare.get_site_name()
private = member.load(folder / "members" / f"{site}.json")
plan = conduct.Federation.from_dict(json.loads((folder / "plan.json").read_text())["federation"])
first = messages.to_arrays(conduct.server.initial_model(plan.training))
shapes = {path: x.shape for path, x in first.items()}
while flare.is_running():
    asked = flare.receive()
    if asked is None:
        break
    if site == "site-1":
        with (folder / "rounds.txt").open("a") as file:
            file.write(f"{time.time()}\\n")
    flat, model, start = np.asarray(asked.params["numpy_key"]), {}, 0
    for path, shape in shapes.items():
        size = int(np.prod(shape))
        model[path], start = flat[start : start + size].reshape(shape).astype(np.float32), start + size
    change, _ = member._trained(
        plan.training.model, plan.training.options, messages.from_arrays(model), private.train, np.int32(10),
        jax.random.key(0),
    )
    new = messages.from_arrays(model)
    flat = np.concatenate([np.ravel(m + c) for m, c in zip(jax.tree.leaves(new), jax.tree.leaves(change))])
    flare.send(FLModel(params={"numpy_key": flat}))
"""


def main(argv: list[str]) -> None:
    print("network  side        s/round  rounds/s  kB/round  start-up s     GB")
    for model in MODELS.value:
        first = None
        for side in SIDES.value:
            root = pathlib.Path(WORKDIR.value) / f"{model}_{side}"
            shutil.rmtree(root, ignore_errors=True)
            begin = time.time()
            with watched() as seen:
                times = fedavg(root, model) if side == "fedavg" else ours(root, model, side)
            gaps = np.diff(times)[1:]
            seconds, first = float(np.median(gaps)), first or float(np.median(gaps))
            moments, sent, memory = zip(*seen, strict=True)
            first_sent, last_sent = np.interp([times[1], times[-1]], moments, sent)
            a_round = (last_sent - first_sent) / len(gaps)
            print(
                f"{model:<8} {side:<10} {seconds:>8.3f} {1 / seconds:>9.2f} {a_round / 1e3:>9.0f} "
                f"{times[0] - begin:>11.1f} {max(memory) / 2**30:>6.2f}  "
                f"{seconds / first:.1f} times the first",
                flush=True,
            )


@contextlib.contextmanager
def watched():
    """Collects (time, bytes through the loopback device, memory of our processes) twice a second."""
    seen, done, me = [], threading.Event(), psutil.Process()

    def look() -> None:
        while not done.wait(0.5):
            lo = psutil.net_io_counters(pernic=True)["lo"].bytes_sent
            total = 0
            for process in [me, *me.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    total += process.memory_info().rss
            seen.append((time.time(), lo, total))

    thread = threading.Thread(target=look)
    thread.start()
    yield seen
    done.set()
    thread.join()


def ours(root: pathlib.Path, model: str, side: str) -> list[float]:
    """When each round was settled."""
    from fedgame.federation import ledger

    command = [
        sys.executable, "-m", "launch.federation", f"--workdir={root}", f"--agents={MEMBERS.value}",
        f"--rounds={ROUNDS.value}", f"--model={model}", "--capacity=10", "--test_images=2",
        "--protocol=fedavg", "--cost=linear(rate=0.001)", "--epochs=1",
    ]  # fmt: skip
    if side != "process":
        command += [f"--{side}", f"--patience={60 + 6 * MEMBERS.value}"]  # they all start on this machine
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    entries = ledger.Ledger(root / "federation" / ledger.FILE).entries()
    from datetime import datetime

    return [
        datetime.fromisoformat(entry.time).timestamp()
        for entry in entries
        if entry.kind == ledger.MEMBER and entry.member == ""
    ]


def fedavg(root: pathlib.Path, model: str) -> list[float]:
    """When NVFlare's own FedAvg began each round, on the data that `ours` has left."""
    root.mkdir(parents=True)
    theirs = pathlib.Path(WORKDIR.value) / f"{model}_process" / "federation"
    shutil.copytree(theirs, root / "federation")
    (root / "client.py").write_text(CLIENT, encoding="utf-8")
    job = f"""
import numpy as np, json
from nvflare.app_common.np.recipes.fedavg import NumpyFedAvgRecipe
from nvflare.recipe import SimEnv
from fedgame.federation import conduct, messages
plan = conduct.Federation.from_dict(json.load(open({str(root / "federation" / "plan.json")!r}))["federation"])
first = messages.to_arrays(conduct.server.initial_model(plan.training))
recipe = NumpyFedAvgRecipe(
    name="fedavg", model=np.concatenate([np.ravel(x) for x in first.values()]).tolist(),
    min_clients={MEMBERS.value}, num_rounds={ROUNDS.value}, train_script={str(root / "client.py")!r},
    train_args={str((root / "federation").resolve())!r},
)
recipe.execute(
    SimEnv(num_clients={MEMBERS.value}, log_config="error", workspace_root={str(root / "nvflare")!r})
)
"""
    (root / "job.py").write_text(job, encoding="utf-8")
    done = subprocess.run([sys.executable, str(root / "job.py")], capture_output=True, text=True, check=False)
    times = root / "federation" / "rounds.txt"
    if not times.exists():
        raise RuntimeError(json.dumps([done.stdout[-2000:], done.stderr[-2000:]]))
    return [float(line) for line in times.read_text().split()]


if __name__ == "__main__":
    app.run(main)

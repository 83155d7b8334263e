"""Memory of `mergebook merge` on files: what grows with the model is the result, nothing else.

Writes a random model and its experts to a temporary folder, merges them by the command line, and
watches the memory that the kernel cannot drop (anonymous pages; those of mapped input files can
be). Next to each method: the peak less what the same command takes for a tiny model, and how many
times the largest layer of all experts that is once the result is taken off. Fails if this exceeds
`--limit`. Linux only.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pandas as pd
import torch

import mergebook as mb

METHODS = ("averaging", "task_arithmetic", "ties", "consensus_ta", "tall_ta", "magnitude_pruning")
MIB = 2**20


def write_models(folder, layers, side, tasks):
    """A base and experts of square float32 layers."""
    generator = torch.Generator().manual_seed(0)
    names = [f"layer{number:02}.weight" for number in range(layers)]
    base = {name: torch.randn(side, side, generator=generator) for name in names}
    mb.save_checkpoint(base, folder / "base.safetensors")
    for task in range(tasks):
        expert = {name: torch.randn(side, side, generator=generator) for name in names}
        for name in names:
            expert[name].mul_(0.01).add_(base[name])
        mb.save_checkpoint(expert, folder / f"task{task}.safetensors")


def anonymous_bytes(pid):
    """Memory of a running process that no file backs; 0 if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    sizes = [line.split()[1] for line in status.splitlines() if line.startswith("RssAnon")]
    return int(sizes[0]) * 1024 if sizes else 0


def peak_of_merge(method, folder, tasks):
    """Peak of anonymous memory of one `mergebook merge`, and the bytes that it wrote."""
    out = folder / f"{method}.safetensors"
    command = [sys.executable, "-m", "mergebook.cli", "merge", "--method", method]
    command += ["--base", folder / "base.safetensors", "--out", out]
    for task in range(tasks):
        command += ["--expert", f"task{task}={folder / f'task{task}.safetensors'}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    ended, peak = threading.Event(), 0

    def watch():
        nonlocal peak
        while not ended.wait(0.002):
            peak = max(peak, anonymous_bytes(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    status = process.wait()
    ended.set()
    watcher.join()
    if status:
        sys.exit(f"mergebook merge --method {method} failed with status {status}")
    size = out.stat().st_size
    out.unlink()
    return peak, size


def measure(methods, layers, side, tasks):
    rows = []
    with tempfile.TemporaryDirectory() as name:
        tiny, large = Path(name) / "tiny", Path(name) / "large"
        write_models(tiny, 1, 2, tasks)
        write_models(large, layers, side, tasks)
        for method in methods:
            start, _ = peak_of_merge(method, tiny, tasks)
            peak, size = peak_of_merge(method, large, tasks)
            rows.append({"method": method, "added": peak - start, "result": size})
    table = pd.DataFrame(rows)
    layer_of_all = 4 * side * side * tasks
    table["times_layer"] = (table["added"] - table["result"]).clip(lower=0) / layer_of_all
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--side", type=int, default=2048, help="rows and columns of a layer")
    parser.add_argument("--tasks", type=int, default=4)
    parser.add_argument(
        "--limit", type=float, default=8, help="largest layer of all experts, so many times"
    )
    options = parser.parse_args()
    model = 4 * options.layers * options.side**2
    print(
        f"{options.tasks} experts of {model / MIB:.0f} MiB, "
        f"layers of {model / options.layers / MIB:.0f} MiB"
    )
    table = measure(options.methods.split(","), options.layers, options.side, options.tasks)
    shown = table.assign(added=table["added"] / MIB, result=table["result"] / MIB)
    print(shown.to_string(index=False, float_format="%.1f"))
    beyond = table[table["times_layer"] > options.limit]
    if len(beyond):
        sys.exit(f"beyond the limit of {options.limit}: {', '.join(beyond['method'])}")


if __name__ == "__main__":
    main()

"""Measures what the tensor cache saves of a GPU's memory, and what it costs in time.

Run it directly on a machine with a CUDA device: ``python tests/benchmarks/offload.py [--rows FILE]``. A stack of
transformer blocks is trained for some steps: as it is, with ``save_on_cpu`` of PyTorch, and in the cache with several
settings. Each gives a row of JSON: the peak of the memory that the device gave out, that of activations (the peak
without what was there before the forward pass, parameters and optimiser included), milliseconds a step (median), bytes
that went to files, and whether losses and parameters are those of the plain run, bit for bit. Rows are written as they
come.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "src"))

from shakeout.targets.offload.tensor_cache import TensorCache  # noqa: E402


class Block(torch.nn.Module):
    """Attention and a perceptron, with the usual residuals."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
        self.projection, self.out = torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, width)
        self.up, self.down = torch.nn.Linear(width, 4 * width), torch.nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.projection(self.first(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.second(x))))


def train(context: Callable[[], Any], options: argparse.Namespace) -> dict[str, Any]:
    """Some steps of training from one seed, inside of a context."""
    device = torch.device(options.device)
    cuda = device.type == "cuda"
    torch.manual_seed(0)
    dtype = torch.bfloat16 if cuda else torch.float32
    blocks = [Block(options.width, options.width // 64 or 1) for _ in range(options.layers)]
    network = torch.nn.Sequential(*blocks).to(device, dtype)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    x = torch.randn(options.batch, options.length, options.width).to(device, dtype)
    seconds, losses, peak, before, written, forwarded = [], [], 0, 0, 0, 0
    for step in range(options.steps):
        if cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        began = time.perf_counter()
        with context() as cache:
            loss = network(x).square().mean()
            loss.backward()
            if cache is not None and hasattr(cache, "store"):
                written, forwarded = cache.store.volume, cache.store.forwarded
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss.detach()))
        if cuda:
            torch.cuda.synchronize()
            if step:  # the first makes the optimiser's state
                peak = max(peak, torch.cuda.max_memory_allocated())
        if step:
            seconds.append(time.perf_counter() - began)
    bits = hashlib.sha256(b"".join(p.detach().cpu().view(torch.uint8).numpy().tobytes() for p in network.parameters()))
    return {
        "milliseconds": round(1000 * sorted(seconds)[len(seconds) // 2], 1),
        "peak": peak,
        "activations": max(peak - before, 0),
        "written": written,
        "forwarded": forwarded,
        "losses": losses,
        "parameters": bits.hexdigest()[:16],
    }


def contexts(directory: str) -> dict[str, Callable[[], Any]]:
    """What a step runs in."""
    cache = {
        "copied": TensorCache(directory, snapshot=True, least=1 << 20, ahead=4, threads=4),
        "not copied": TensorCache(directory, snapshot=False, least=1 << 20, ahead=4, threads=4),
        "not copied, 8 threads": TensorCache(directory, snapshot=False, least=1 << 20, ahead=8, threads=8),
        "not copied, host only": TensorCache(
            directory, snapshot=False, least=1 << 20, ahead=4, threads=4, host=1 << 36
        ),
        "not copied, adaptive": TensorCache(
            directory, snapshot=False, least=1 << 20, ahead=4, threads=8, keep="adaptive"
        ),
    }
    return {
        "plain": contextlib.nullcontext,
        "save_on_cpu": lambda: torch.autograd.graph.save_on_cpu(pin_memory=torch.cuda.is_available()),
        **{f"ssdtrain, {name}": one.step for name, one in cache.items()},
    }


def main() -> int:
    """A row for each context; 1 where one changes a bit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--directory", default=None, help="where files go; by default the system's place for them")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rows", type=Path, default=None)
    options = parser.parse_args()
    machine = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    plain: dict[str, Any] | None = None
    status = 0
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        for name, context in contexts(directory).items():
            row = train(context, options)
            plain = plain or row
            same = (row["losses"], row["parameters"]) == (plain["losses"], plain["parameters"])
            status |= not same
            shape = {key: vars(options)[key] for key in ("layers", "width", "batch", "length", "steps")}
            told = {"name": name, "same": same, **row, **shape, "torch": torch.__version__, "machine": machine}
            told["left"] = len(list(Path(directory).iterdir()))
            if options.rows is not None:
                with options.rows.open("a") as out:
                    out.write(json.dumps(told) + "\n")
            slower = row["milliseconds"] / plain["milliseconds"]
            saved = 1 - row["activations"] / plain["activations"] if plain["activations"] else 0.0
            print(
                f"{name:<34}{row['milliseconds']:>9.1f} ms ({slower:.2f}x)  activations "
                f"{row['activations'] / 2**30:6.2f} GiB ({saved:.0%} less)  written {row['written'] / 2**30:6.2f} GiB  "
                f"{'same bits' if same else 'OTHER BITS'}, {told['left']} left",
                flush=True,
            )
    return status


if __name__ == "__main__":
    raise SystemExit(main())

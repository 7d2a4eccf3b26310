import math, sys, logging
import torch
from dataclasses import dataclass

logging.basicConfig(level=logging.INFO)
logger = logging.getLogger(__name__)

@dataclass
class Config:
    n_head: int = 2
    n_embd: int = 8
    dropout: float = 0.1

@dataclass
class Batch:
    x: torch.Tensor
    mask: torch.Tensor

class Block(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.c_attn = torch.nn.Linear(config.n_embd, 3 * config.n_embd)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.register_buffer("running", torch.zeros(config.n_embd))

    def forward(self, batch, config=None, past=None):
        cfg = config or self.config
        b, t, c = batch.x.shape
        q, k, v = self.c_attn(batch.x).split(cfg.n_embd, dim=2)
        att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
        att = att.masked_fill(batch.mask == 0, float('-inf')).softmax(-1)
        att = torch.nn.functional.dropout(att, cfg.dropout, self.training)
        y = att @ v
        self.calls += 1
        self.running.lerp_(y.detach().mean((0, 1)), 0.1)
        return {"y": y, "present": (k, v), "config": cfg}

def main():
    torch.manual_seed(1337)
    config = Config()
    block = Block(config)
    batch = Batch(torch.randn(2, 5, 8), torch.tril(torch.ones(5, 5)))
    compiled = torch.compile(block, backend="aot_eager")
    for _ in range(2):
        out = compiled(batch, config=config)
        logger.info("norm %s", out["y"].norm())
    block.eval()
    with torch.no_grad():
        for _ in range(3):
            batch.x = batch.x + 1
            out = compiled(batch)
    sys.exit(0 if torch.isfinite(out["y"]).all() else 1)

if __name__ == "__main__":
    main()

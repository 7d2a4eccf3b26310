# %% [markdown]
# Repro for wrong results
# %%
import torch
from dataclasses import dataclass
from typing import NamedTuple, Optional
torch.set_grad_enabled(False)
torch.set_default_dtype(torch.float32)
# %%
@dataclass
class Output:
    hidden: torch.Tensor
    logits: Optional[torch.Tensor] = None
    aux: float = 0.5

class Pair(NamedTuple):
    a: torch.Tensor
    b: torch.Tensor
# %%
emb = torch.nn.Embedding(32, 8)
head = torch.nn.Linear(8, 32, bias=False)
head.weight = emb.weight
@torch.compile
def f(ids):
    h = emb(ids)
    return Output(hidden=h, logits=head(h))

@torch.compile(backend="aot_eager")
def g(p: Pair):
    return Pair(p.a + p.b, p.a * p.b)
# %%
ids = torch.arange(6).view(2, 3)
f(ids)
g(Pair(torch.ones(3), torch.arange(3.)))

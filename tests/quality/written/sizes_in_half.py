import torch
from functools import partial
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Conv1d(2, 4, 3), torch.nn.GroupNorm(2, 4), torch.nn.SiLU()).to(torch.bfloat16)
step = torch.compile(partial(lambda m, x, flag: m(x) if flag else x, model, flag=True), dynamic=False)
for n in (5, 6, 7):
    print(step(torch.randn(2, 2, n, dtype=torch.bfloat16)).shape)
with torch.autocast(device_type="cpu", dtype=torch.float16):
    step(torch.randn(2, 2, 9))

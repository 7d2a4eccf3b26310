import torch
import torch._dynamo as dynamo

class GraphModule(torch.nn.Module):
    def forward(self, L_x_: "f32[4, 6]", L_y_: "f32[6]"):
        l_x_ = L_x_
        l_y_ = L_y_
        add = l_x_ + l_y_;  l_x_ = l_y_ = None
        amax = torch.amax(add, dim = 1, keepdim = True)
        sub = add - amax;  add = amax = None
        exp = torch.exp(sub);  sub = None
        return (exp,)

mod = GraphModule()
try:
    import torchvision_that_is_not_there
except ImportError:
    pass
try:
    opt_mod = dynamo.optimize("inductor")(mod)
    a = opt_mod(torch.randn(4, 6), torch.randn(6))
except Exception as e:
    print("FAILED", e)

class Trainer:
    def __init__(self, model):
        self.model = model
        self.step = torch.compile(self._step, fullgraph=True)
    @torch.compile
    def eval_step(self, x):
        return self.model(x).argmax(-1)
    def _step(self, x, t):
        return torch.nn.functional.cross_entropy(self.model(x), t)

tr = Trainer(torch.nn.Linear(5, 3))
tr.step(torch.randn(4, 5), torch.tensor([0, 1, 2, 0])).backward()
print(tr.eval_step(torch.randn(4, 5)))

import torch
torch._inductor.config.fallback_random = True
torch._dynamo.config.suppress_errors = False
x = torch.randn(3, 4, dtype=torch.half, requires_grad=True)
y = torch.compile(lambda t: torch.nn.functional.dropout(t.exp(), 0.5, True) / 3, dynamic=True)(x)
y.sum().backward()
print(y, x.grad, torch.__version__)

import torch
class M(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.l = torch.nn.Linear(4, 4).cuda()
    def forward(self, x):
        return self.l(x).to("cuda").half()
m = M().cuda()
x = torch.randn(2, 4, device="cuda")
print(torch.compile(m)(x))
torch.cuda.synchronize()

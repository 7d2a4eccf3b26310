import torch
import torch.nn.functional as F

net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
opt = torch.optim.SGD(net.parameters(), lr=0.1)

@torch.compile
def loss_fn(x, y):
    return F.mse_loss(net(x), y)

@torch.compile
def train_step(x, y):
    opt.zero_grad()
    loss = F.mse_loss(net(x), y)
    loss.backward()
    opt.step()
    return loss

x, y = torch.randn(16, 4), torch.randn(16, 1)
loss = loss_fn(x, y); loss.backward()
for _ in range(2):
    print(train_step(x, y))

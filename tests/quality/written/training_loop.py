import torch
from torch import nn, optim

torch.manual_seed(0)
device = 'cuda' if torch.cuda.is_available() else 'cpu'
print('using', device)

model = nn.Sequential(nn.Linear(16, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 4)).to(device)
opt = optim.AdamW(model.parameters(), lr=1e-3)
criterion = nn.CrossEntropyLoss()
model = torch.compile(model, mode="max-autotune")
model.train()
losses = []
for epoch in range(3):
    x = torch.randn(8, 16, device=device)
    y = torch.randint(0, 4, (8,), device=device)
    opt.zero_grad()
    out = model(x)
    loss = criterion(out, y)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    opt.step()
    losses.append(loss.item())
    print(f'{epoch=} {loss.item():.4f}')
assert losses[-1] < 10

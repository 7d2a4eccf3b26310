import torch
import torch.nn as nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8 * 16 * 16, 10)

    def forward(self, x):
        x = torch.relu(self.bn(self.conv(x)))
        return self.fc(x.flatten(1))

if __name__ == "__main__":
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(42)
    model = Net().to(device).eval()
    x = torch.randn(2, 3, 16, 16, device=device)
    eager = model(x)
    compiled_model = torch.compile(model)
    out = compiled_model(x)
    print("max diff:", (eager - out).abs().max().item())
    assert torch.allclose(eager, out, atol=1e-5), "outputs differ"

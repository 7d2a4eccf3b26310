import pytest
import torch

def softmax_scale(x, dim):
    return torch.softmax(x * 2, dim=dim)

@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_softmax_matches(dim, dtype):
    torch._dynamo.reset()
    x = torch.randn(4, 5, dtype=dtype)
    torch.testing.assert_close(torch.compile(softmax_scale)(x, dim), softmax_scale(x, dim))

def test_raises():
    def f(x):
        return x.view(7)
    with pytest.raises(RuntimeError):
        torch.compile(f)(torch.randn(4))

# Owner(s): ["module: inductor"]
import torch
import torch._dynamo
import torch._inductor.config as inductor_config
from torch.testing._internal.common_utils import run_tests, TestCase


class TestRepro(TestCase):
    def common(self, fn, args):
        torch._dynamo.reset()
        opt = torch._dynamo.optimize("inductor", nopython=True)(fn)
        self.assertEqual(opt(*args), fn(*args))

    @inductor_config.patch({"cpp.simdlen": 1})
    def test_cumsum(self):
        self.common(lambda x: x.cumsum(-1) + x.flip(0), (torch.randn(5, 9),))

    @torch._dynamo.config.patch(capture_scalar_outputs=True)
    def test_index(self):
        def fn(x, i):
            return x[i] * 2
        self.common(fn, (torch.randn(8, 3), torch.tensor([1, 5, 1])))


if __name__ == "__main__":
    run_tests()

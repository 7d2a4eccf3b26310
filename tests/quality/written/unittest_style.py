import torch, unittest
class T(unittest.TestCase):
    def setUp(self):
        self.m = torch.nn.Linear(3, 3)
    def test_a(self):
        def fn(x):
            self.calls = getattr(self, "calls", 0) + 1
            return self.m(x)
        self.assertTrue(torch.equal(torch.compile(fn)(torch.ones(1, 3)), fn(torch.ones(1, 3))))
    def test_b(self):
        f = torch.compile(lambda d: {k: v + 1 for k, v in d.items()}, backend=lambda gm, inp: gm.forward)
        f({"a": torch.ones(2), "b": torch.zeros(2)})
if __name__ == "__main__":
    unittest.main(verbosity=2)

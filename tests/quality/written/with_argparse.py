#!/usr/bin/env python
"""Minimal repro"""
import argparse
import torch
import torch.nn.functional as F

def parse_args():
    p = argparse.ArgumentParser()
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--backend", default="inductor")
    p.add_argument("--dtype", default="bfloat16", choices=["float32", "bfloat16"])
    p.add_argument("--iters", type=int, default=3)
    return p.parse_args()

def fn(q, k, v, *, scale=None, causal=True):
    s = q @ k.transpose(-2, -1)
    if scale is not None:
        s = s * scale
    if causal:
        m = torch.ones(s.shape[-2:], dtype=torch.bool, device=s.device).tril()
        s = s.masked_fill(~m, float("-inf"))
    return F.softmax(s, dim=-1) @ v

def main():
    args = parse_args()
    dt = getattr(torch, args.dtype)
    q, k, v = (torch.randn(2, 4, 8, 16, device=args.device, dtype=dt) for _ in range(3))
    cfn = torch.compile(fn, backend=args.backend)
    for i in range(args.iters):
        ref = fn(q, k, v, scale=0.25)
        res = cfn(q, k, v, scale=0.25)
        print(f"iter {i}: equal={torch.equal(ref, res)}")
        q = q + 1

main()

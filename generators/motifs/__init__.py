"""Published building blocks of networks as seeds: compilers look for them, and random growth hardly meets them."""

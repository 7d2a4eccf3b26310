"""Rules of operators, learnt from executed calls: what a call must fulfil, and what it then gives."""

"""The processes behind a pool: the zygote, the worker that does a job of any kind, and what forks scripts."""

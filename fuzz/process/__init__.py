"""The processes behind a pool: the zygote, and the worker that does a job of any kind."""

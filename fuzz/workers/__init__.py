"""Pools of isolated worker processes, from the outside: a zygote that forks, kinds of workers, limits, confirmation."""

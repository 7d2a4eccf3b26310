"""Pools of isolated worker processes, from the outside: a zygote that forks, places, limits, confirmations."""

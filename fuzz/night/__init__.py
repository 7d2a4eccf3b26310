"""A night: a campaign that goes on every night, and what has changed since the last one."""

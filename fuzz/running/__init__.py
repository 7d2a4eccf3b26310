"""One case, inside a worker: grown or given, run on reference and target, judged."""

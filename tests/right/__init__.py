"""Right code of users: kernels and runtimes of which every finding is a false alarm."""

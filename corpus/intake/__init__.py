"""What people hand over, as cases: a function or a module with real arguments, recorded and proven to be the same.

``capturing.capture`` is the way in. Everything here needs torch, so it is imported inside of what needs it.
"""

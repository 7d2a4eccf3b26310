"""Whether a target, an oracle or a vocabulary keeps to what Shakeout expects of it; public as ``shakeout.testing``."""

"""``shakeout learn``: what operators take and give, learnt from traces."""

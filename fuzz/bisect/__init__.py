"""Which change is to blame: a switch, a pass, a lowering, a release."""

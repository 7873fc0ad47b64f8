"""Exact rewritings of the intermediate form, each with one job; what it can't prove, a pass leaves as it is."""

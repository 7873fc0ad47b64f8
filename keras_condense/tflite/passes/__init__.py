"""Exact rewritings of the intermediate form, each with one job; a pass that can't prove its rewriting changes nothing."""

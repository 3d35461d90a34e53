"""Tests of the pure rules that host and kernel share."""

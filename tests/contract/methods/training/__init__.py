"""Tests of the tables of the settings of `train`."""

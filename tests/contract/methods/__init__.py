"""Tests of the methods of the contract."""

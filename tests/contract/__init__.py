"""Tests of the contract: its Structs, its rules, and the documents made of them."""

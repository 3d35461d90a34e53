"""The host side of the contract: kernels as processes, and one client for each."""

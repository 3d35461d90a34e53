"""The algebra of adapters on their factors: ΔW = up · down is never formed where it need not be."""

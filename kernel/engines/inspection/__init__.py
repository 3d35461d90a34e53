"""What a file of weights is, what it was made with, and how much of it each program will load.

All but the norms is read from the header, the alphas, and one pass over the bytes for the hashes; torch is
loaded for the norms only.
"""

"""Picture files as everybody of ours reads them: opened, upright, in eight bits, or refused by name.

Taggers and training see the same files as broken and the same pixels in them; what becomes of the pixels is
their own. Every function is safe to call from many threads at once; Pillow releases the GIL while it decodes.

ICC profiles are not applied: the models were trained without.
"""

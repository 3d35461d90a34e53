"""The engines behind the methods: what they compute, and nothing of the wire.

An engine knows files, arrays and models, and the error tree; it knows no request, no job and no host. Those
of surgery are given settings and a `kernel.surgery.Surgery`, which is all that they see of their job.
The heavy libraries (numpy, Pillow, onnxruntime, torch) are imported here and nowhere else in the kernel,
and this package is imported only when a job needs it.
"""

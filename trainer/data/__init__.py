"""From folders of pictures to batches: captions, buckets, caches of latents, and the order of a run."""

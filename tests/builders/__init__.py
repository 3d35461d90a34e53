"""What tests and benchmarks are made of: models, pictures; all generated, nothing downloaded."""

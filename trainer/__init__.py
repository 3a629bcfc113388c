"""The trainer: dataset versions in, fine-tuned models out; knows nothing of the service."""

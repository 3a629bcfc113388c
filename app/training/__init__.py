"""Fine-tuning jobs, models, chat."""

"""The trainer: dataset versions in, fine-tuned models out; knows nothing of the service.

`transformers` opens this package's own type of model as it opens its own ones, once `trainer` is imported.
"""

from trainer.structure.registration import register_when_loaded

register_when_loaded()

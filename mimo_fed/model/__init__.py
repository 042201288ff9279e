"""The model on a device: bases, LoRA training, evaluation, chat. The only package that imports torch."""

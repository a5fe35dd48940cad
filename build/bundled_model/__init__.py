"""The model that ships with Tilewright: corpus, tokenizer, training, export, evaluation."""

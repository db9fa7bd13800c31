"""How nano was made: its material, tokenizer, shape, training and measurement."""

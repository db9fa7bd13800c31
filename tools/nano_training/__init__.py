"""How nano was made and measured: questions, training, evaluation. The checkpoint ships in the package."""

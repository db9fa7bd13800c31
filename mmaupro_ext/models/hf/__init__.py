"""`--model hf-audio`: audio-language models of transformers on this machine."""

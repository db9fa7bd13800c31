"""Qwen2-Audio, for family=FILE.py."""

from mmaupro_ext.models.families.family import Family, Loading, Writing, each


def audio_tokens(samples):
    """Samples of a block at 16 kHz -> how often the processor writes its audio token."""
    frames = -(-samples // 160)  # one each 10 ms; two layers then halve them
    return ((frames - 1) // 2 + 1 - 2) // 2 + 1


def encode(processor, text, options):
    """One prompt -> tensors; options["audio"] holds a float32 array for each block of audio."""
    return processor(text=[text], return_tensors="pt", **options)


FAMILY = Family(
    model_types=("qwen2_audio",),  # as config.json of the checkpoint says
    writing=Writing(
        audio_block="<|audio_bos|><|AUDIO|><|audio_eos|>",  # what stands for a block in the prompt
        audio_token="<|AUDIO|>",  # what the processor repeats, once for each embedding
        count_tokens=each(audio_tokens),  # every prompt is held to it
        whole_s=30.0,  # longer clips are given as numbered blocks
        label_alone=True,  # the chat template numbers a single clip, too
        template_block_end="\n",  # what the chat template writes after each
        min_samples=961,
    ),
    loading=Loading(
        loader="Qwen2AudioForConditionalGeneration",  # a name in transformers, or a class
        encode=encode,  # may be left out where the processor takes the usual arguments
    ),
)

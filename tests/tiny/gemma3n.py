"""A tiny Gemma 3n with the files of the hub's checkpoints; it needs timm and torchvision."""

from pathlib import Path

from transformers import (
    Gemma3nAudioFeatureExtractor,
    Gemma3nConfig,
    Gemma3nForConditionalGeneration,
    SiglipImageProcessorPil,
)

from tiny.common import byte_tokenizer, save_json, save_model, settings

NAMED = {
    "image_token": "<image_soft_token>",
    "boi_token": "<start_of_image>",
    "eoi_token": "<end_of_image>",
    "audio_token": "<audio_soft_token>",
    "boa_token": "<start_of_audio>",
    "eoa_token": "<end_of_audio>",
}
FIRST = ("<pad>", "<eos>", "<bos>")
CHATS = ("<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<start_of_audio>")
# The last ids belong to the embeddings of images, then to those of sound.
OWN_EMBEDDINGS = ("<end_of_image>", "<image_soft_token>", "<end_of_audio>", "<audio_soft_token>")

# Written anew after the behaviour of the hub's template, which strips the text parts.
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] | trim }}{% else %}"
    "{% for part in m['content'] %}"
    "{% if part['type'] == 'audio' %}<audio_soft_token>"
    "{% elif part['type'] == 'image' %}<image_soft_token>"
    "{% elif part['type'] == 'text' %}{{ part['text'] | trim }}{% endif %}"
    "{% endfor %}{% endif %}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


def build(folder: Path) -> None:
    tokens = byte_tokenizer(
        [*CHATS, *OWN_EMBEDDINGS], NAMED, pad="<pad>", eos="<eos>", bos="<bos>", first=FIRST
    )
    ids = tokens.get_vocab()
    config = Gemma3nConfig(
        text_config={
            "vocab_size": len(tokens),
            "vocab_size_per_layer_input": len(tokens),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 6,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 16,
            "hidden_size_per_layer_input": 8,
            "layer_types": ["sliding_attention", "full_attention"] * 3,
            "num_kv_shared_layers": 2,
            "laurel_rank": 4,
            "sliding_window": 64,
            "altup_num_inputs": 2,
            "max_position_embeddings": 32768,
        },
        vision_config={
            "architecture": "test_efficientnet",
            "hidden_size": 256,
            "vocab_size": 2,
            "vocab_offset": ids["<end_of_image>"],
        },
        audio_config={
            "vocab_size": 2,
            "vocab_offset": ids["<end_of_audio>"],
            "hidden_size": 32,
            "conf_num_attention_heads": 2,
            "conf_num_hidden_layers": 1,
            "sscp_conv_channel_size": (8, 4),
        },
        vision_soft_tokens_per_image=4,
        image_token_id=ids["<image_soft_token>"],
        boi_token_id=ids["<start_of_image>"],
        eoi_token_id=ids["<end_of_image>"],
        audio_token_id=ids["<audio_soft_token>"],
        boa_token_id=ids["<start_of_audio>"],
        eoa_token_id=ids["<end_of_audio>"],
    )
    save_model(folder, Gemma3nForConditionalGeneration, config, scale=8.0, noise=0.1)
    tokens.save_pretrained(folder)
    save_json(
        folder / "preprocessor_config.json",
        {
            **settings(SiglipImageProcessorPil(size={"height": 64, "width": 64})),
            **settings(Gemma3nAudioFeatureExtractor()),
            "image_processor_type": "SiglipImageProcessor",
            "feature_extractor_type": "Gemma3nAudioFeatureExtractor",
            "processor_class": "Gemma3nProcessor",
        },
    )
    save_json(
        folder / "processor_config.json",
        {"audio_seq_length": 188, "image_seq_length": 4, "processor_class": "Gemma3nProcessor"},
    )
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")

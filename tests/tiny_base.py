"""A base model small enough for tests: a random Llama with a tokenizer and a chat template, as `transformers` saves it."""

from pathlib import Path

from trainer.data.scratch_tokenizer import train_tokenizer

TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a clerk.<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""ChatML with a default system prompt, as many instruction-tuned bases have it."""


def make_tiny_base(folder: Path, *, seed: int = 0, template: str | None = TEMPLATE, max_positions: int = 256) -> Path:
    """Writes the folder; without a template it is like a base that was never tuned to chat."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    chat = train_tokenizer(iter(["我想查一下我的话费", "好的，请稍等", "I would like to check my bill"] * 20), 400)
    chat.save(folder)
    if template is None:
        (folder / "chat_template.jinja").unlink()
    else:
        (folder / "chat_template.jinja").write_text(template, "utf-8")
    torch.manual_seed(seed)
    structure = LlamaConfig(
        vocab_size=chat.vocab_size, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=max_positions, tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=list(chat.eos_ids), pad_token_id=chat.eos_ids[0],
    )  # fmt: skip
    LlamaForCausalLM(structure).to(torch.bfloat16).save_pretrained(folder)
    return folder

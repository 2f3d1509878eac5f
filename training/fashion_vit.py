#!/usr/bin/env python3
"""Train the small vision transformer that ships with Subrosa, and export it.

The model is a pre-LayerNorm ViT (the block layout of ViT and DeiT) for
Fashion-MNIST: 28x28 grey pixels, 4x4 patches (49 tokens), width 64, 4 layers
of 4 heads, an MLP twice as wide with the exact (erf) GELU, a final LayerNorm,
the mean over the tokens, and a linear layer to the 10 classes.

One run does everything:

  1. reads the four IDX files of Fashion-MNIST (from --data);
  2. trains with AdamW, warm-up and a cosine schedule, on images mirrored and
     shifted at random, by up to 2 pixels at first and not at all at the end;
  3. measures the accuracy on all 10,000 test images after every epoch (for
     the log only: the model kept is always the one of the last epoch, never
     the best one on the test set);
  4. exports ONNX (opset 17, batch 1) with input `image` in 0..1 and output
     `logits`. The pixel normalisation is folded into the patch convolution,
     and LayerNorm and GELU are written as elementary operators;
  5. writes the labels, the test sample and the calibration sample beside it.

Files written (in --models): fashion-vit.onnx, fashion-vit.json,
fashion-test-200.bin and fashion-calibration.bin. A sample file of N images is
N label bytes followed by N * 784 pixel bytes, row by row, 0 = background.

Needs Python 3, PyTorch and NumPy; nothing else. See README.md beside this file.
"""

import argparse
import copy
import gzip
import json
import math
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

HERE = Path(__file__).resolve().parent
DEBIAN_DATA = Path("/usr/share/datasets/fashion-mnist")  # package dataset-fashion-mnist

LABELS = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
          "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
MEAN, STD = 0.2860, 0.3530  # of the training pixels divided by 255

SIDE, PATCH, WIDTH, HEADS, LAYERS = 28, 4, 64, 4, 4
TOKENS = (SIDE // PATCH) ** 2
HEAD_DIM = WIDTH // HEADS
RESIDUAL_GAIN = (2 * LAYERS) ** -0.5  # keeps the sum of all branches near unit size at first


# ---------------------------------------------------------------- the model

class Linear(nn.Module):
    """A linear layer whose weight is kept as [in, out], so that the exported
    MatMul carries it under its own name rather than as an anonymous transpose."""

    def __init__(self, inputs, outputs, gain=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.xavier_uniform_(self.weight, gain)

    def forward(self, x):
        if torch.onnx.is_in_onnx_export():
            return torch.matmul(x, self.weight) + self.bias
        return F.linear(x, self.weight.t(), self.bias)


class LayerNorm(nn.Module):
    """LayerNorm over the last axis, exported as elementary operators."""

    eps = 1e-5

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        if not torch.onnx.is_in_onnx_export():
            return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)
        centred = x - x.mean(-1, keepdim=True)
        variance = centred.pow(2).mean(-1, keepdim=True)
        return centred / torch.sqrt(variance + self.eps) * self.weight + self.bias


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.query = Linear(WIDTH, WIDTH)
        self.key = Linear(WIDTH, WIDTH)
        self.value = Linear(WIDTH, WIDTH)
        self.output = Linear(WIDTH, WIDTH, RESIDUAL_GAIN)

    def forward(self, x):
        def heads(y):  # [batch, tokens, width] -> [batch, heads, tokens, head_dim]
            return y.reshape(-1, TOKENS, HEADS, HEAD_DIM).transpose(1, 2)

        q, k, v = heads(self.query(x)), heads(self.key(x)), heads(self.value(x))
        if torch.onnx.is_in_onnx_export():
            scores = torch.matmul(q, k.transpose(2, 3)) / math.sqrt(HEAD_DIM)
        else:  # the same, but dividing the smaller matrix
            scores = torch.matmul(q / math.sqrt(HEAD_DIM), k.transpose(2, 3))
        mixed = torch.matmul(torch.softmax(scores, dim=-1), v)
        return self.output(mixed.transpose(1, 2).reshape(-1, TOKENS, WIDTH))


class Mlp(nn.Module):
    def __init__(self, ratio):
        super().__init__()
        self.up = Linear(WIDTH, WIDTH * ratio)
        self.gelu = nn.GELU()
        self.down = Linear(WIDTH * ratio, WIDTH, RESIDUAL_GAIN)

    def forward(self, x):
        return self.down(self.gelu(self.up(x)))


class Block(nn.Module):
    def __init__(self, ratio):
        super().__init__()
        self.norm1 = LayerNorm(WIDTH)
        self.attention = Attention()
        self.norm2 = LayerNorm(WIDTH)
        self.mlp = Mlp(ratio)

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class FashionViT(nn.Module):
    """Takes images already normalised by MEAN and STD; see `for_export`."""

    def __init__(self, ratio=2):
        super().__init__()
        self.patch = nn.Conv2d(1, WIDTH, PATCH, stride=PATCH)
        self.position = nn.Parameter(torch.randn(1, TOKENS, WIDTH) * 0.1)
        self.blocks = nn.ModuleList(Block(ratio) for _ in range(LAYERS))
        self.norm = LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, len(LABELS))

    def forward(self, image):
        x = self.patch(image).reshape(-1, WIDTH, TOKENS).transpose(1, 2) + self.position
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


def for_export(model):
    """A copy that takes pixels in 0..1: (p - MEAN) / STD goes into the patch
    convolution, which is exact because it has no padding."""
    model = copy.deepcopy(model).eval()
    with torch.no_grad():
        weight, bias = model.patch.weight, model.patch.bias
        bias -= weight.sum((1, 2, 3)) * (MEAN / STD)
        weight /= STD
    return model


# ----------------------------------------------------------------- the data

def read_idx(path):
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        raw = file.read()
    dims = raw[3]
    shape = [int.from_bytes(raw[4 + 4 * i:8 + 4 * i], "big") for i in range(dims)]
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * dims).reshape(shape)


def load(folder, part):
    """`part` is "train" or "t10k". Returns pixels [n, 28, 28] and labels [n], uint8."""
    def find(name):
        for path in (folder / f"{name}.gz", folder / name):
            if path.exists():
                return path
        raise SystemExit(f"{folder}: no {name}[.gz] there; install the Debian package "
                         "dataset-fashion-mnist or name the folder with --data")
    return read_idx(find(f"{part}-images-idx3-ubyte")), read_idx(find(f"{part}-labels-idx1-ubyte"))


def as_input(pixels):
    return (torch.from_numpy(np.array(pixels)).unsqueeze(1).float() / 255 - MEAN) / STD


def augment(pixels, shift):
    """Pixels [n, 28, 28] (0..255): mirrored at random, moved by up to `shift` pixels."""
    n = len(pixels)
    mirrored = torch.rand(n) < 0.5
    x = torch.where(mirrored[:, None, None], pixels.flip(2), pixels)
    x = F.pad(x, (shift,) * 4)
    rows = torch.randint(0, 2 * shift + 1, (n, 1)) + torch.arange(SIDE)
    columns = torch.randint(0, 2 * shift + 1, (n, 1)) + torch.arange(SIDE)
    return x[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]


def write_sample(path, pixels, labels):
    path.write_bytes(labels.tobytes() + pixels.tobytes())


def write_samples(folder, train, test):
    """The first 20 test images of every class, in test-set order, and the first
    512 training images."""
    pixels, labels = test
    chosen = np.sort(np.concatenate([np.flatnonzero(labels == c)[:20] for c in range(10)]))
    write_sample(folder / "fashion-test-200.bin", pixels[chosen], labels[chosen])
    write_sample(folder / "fashion-calibration.bin", train[0][:512], train[1][:512])


# --------------------------------------------------- training and the export

def accuracy(model, pixels, labels):
    model.eval()
    right = 0
    with torch.no_grad():
        for i in range(0, len(pixels), 500):
            guess = model(as_input(pixels[i:i + 500])).argmax(1).numpy()
            right += int((guess == labels[i:i + 500]).sum())
    model.train()
    return right / len(pixels)


def export(model, folder, score):
    torch.onnx.export(
        for_export(model), torch.zeros(1, 1, SIDE, SIDE), str(folder / "fashion-vit.onnx"),
        opset_version=17, input_names=["image"], output_names=["logits"],
        do_constant_folding=True)
    (folder / "fashion-vit.json").write_text(json.dumps({
        "labels": LABELS,
        "input": {"name": "image", "shape": [1, 1, SIDE, SIDE], "scale": "pixel/255"},
        "accuracy": round(score, 4),
        "task": "image-classification",
    }, indent=2) + "\n")


def rate_at(step, steps, warm_up, peak):
    if step < warm_up:
        return peak * (step + 1) / warm_up
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


def train(model, args, train_set, test_set, say):
    pixels = torch.from_numpy(np.array(train_set[0]))
    labels = torch.from_numpy(train_set[1].astype(np.int64))
    # Weight decay on matrices only: not on biases, LayerNorm gains and positions.
    decayed = [p for n, p in model.named_parameters() if p.dim() > 1 and n != "position"]
    rest = [p for n, p in model.named_parameters() if not (p.dim() > 1 and n != "position")]
    optimiser = torch.optim.AdamW([{"params": decayed, "weight_decay": args.weight_decay},
                                   {"params": rest, "weight_decay": 0.0}], lr=args.lr)
    per_epoch = len(pixels) // args.batch
    steps, warm_up = args.epochs * per_epoch, per_epoch
    step, first, score, started = 0, 0, 0.0, time.time()

    if args.resume and args.checkpoint.exists():
        saved = torch.load(args.checkpoint)
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        torch.set_rng_state(saved["random"])
        first, score = saved["epoch"], saved["score"]
        step = first * per_epoch
        say(f"resumed after epoch {first}")

    for epoch in range(first + 1, args.epochs + 1):
        # Shift less and less: the images to be classified are centred.
        shift = round(args.shift * (1 - (epoch - 1) / args.epochs))
        order = torch.randperm(len(pixels))
        total = right = seen = 0
        for i in range(per_epoch):
            pick = order[i * args.batch:(i + 1) * args.batch]
            x = (augment(pixels[pick], shift).unsqueeze(1).float() / 255 - MEAN) / STD
            for group in optimiser.param_groups:
                group["lr"] = rate_at(step, steps, warm_up, args.lr)
            logits = model(x)
            loss = F.cross_entropy(logits, labels[pick], label_smoothing=args.smoothing)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            step += 1
            seen += len(pick)
            total += loss.item() * len(pick)
            right += int((logits.argmax(1) == labels[pick]).sum())
            if args.speed and step == args.speed:
                say(f"{step / (time.time() - started):.2f} steps/s, {per_epoch} steps/epoch")
                return 0.0
        score = accuracy(model, *test_set)
        say(f"epoch {epoch:3d}  loss {total / seen:.4f}  train accuracy {right / seen:.4f}  "
            f"test accuracy {score:.4f}  {time.time() - started:.0f} s")
        torch.save({"model": model.state_dict(), "optimiser": optimiser.state_dict(),
                    "random": torch.get_rng_state(), "epoch": epoch, "score": score},
                   args.checkpoint)
        if epoch % args.export_every == 0 and epoch < args.epochs:
            export(model, args.models, score)
    return score


def parse():
    parser = argparse.ArgumentParser(
        description="Train, test and export the Fashion-MNIST ViT that ships with Subrosa.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("--data", type=Path, default=DEBIAN_DATA,
        help="folder with the four Fashion-MNIST IDX files, gzipped or not")
    add("--models", type=Path, default=HERE.parent / "models", help="folder to write the model to")
    add("--log", type=Path, default=HERE / "fashion_vit.log", help="training log to write")
    add("--checkpoint", type=Path, default=Path(tempfile.gettempdir()) / "fashion-vit.pt",
        help="checkpoint, rewritten after every epoch")
    add("--resume", action="store_true", help="go on from --checkpoint if it exists")
    add("--epochs", type=int, default=28, help="passes over the 60,000 training images")
    add("--batch", type=int, default=64, help="images per step")
    add("--lr", type=float, default=1.5e-3, help="peak learning rate")
    add("--weight-decay", type=float, default=0.05, help="AdamW weight decay")
    add("--smoothing", type=float, default=0.05, help="label smoothing")
    add("--shift", type=int, default=2, help="largest random shift in pixels at first; it falls to 0 by the end")
    add("--ratio", type=int, default=2, help="MLP width / model width")
    add("--seed", type=int, default=1, help="seed of all randomness")
    add("--threads", type=int, default=1, help="PyTorch threads")
    add("--export-every", type=int, default=3, help="also export every so many epochs")
    add("--speed", type=int, default=0, metavar="STEPS",
        help="only measure the speed over so many steps and stop")
    return parser.parse_args()


def main():
    args = parse()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    train_set, test_set = load(args.data, "train"), load(args.data, "t10k")
    model = FashionViT(args.ratio)

    if args.speed:
        train(model, args, train_set, test_set, print)
        return

    args.models.mkdir(parents=True, exist_ok=True)
    write_samples(args.models, train_set, test_set)
    with open(args.log, "a" if args.resume else "w") as log:
        def say(text):
            print(text, flush=True)
            print(text, file=log, flush=True)

        options = {k.replace("_", "-"): getattr(args, k) for k in (
            "epochs", "batch", "lr", "weight_decay", "smoothing", "shift", "ratio", "seed")}
        say("fashion_vit.py " + " ".join(f"--{k} {v}" for k, v in options.items()))
        say(f"PyTorch {torch.__version__}, {args.threads} thread(s), "
            f"{sum(p.numel() for p in model.parameters())} parameters")
        score = train(model, args, train_set, test_set, say)
        export(model, args.models, score)
        size = (args.models / "fashion-vit.onnx").stat().st_size
        say(f"final test accuracy {score:.4f} over {len(test_set[0])} images")
        say(f"exported fashion-vit.onnx, {size} bytes")


if __name__ == "__main__":
    main()

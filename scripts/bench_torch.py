#!/usr/bin/env python3
"""Full attention of PyTorch on the GPU of this machine, beside what `llsa bench attention` measured.

    scripts/bench_torch.py [--ours attention.json] [--json FILE] [--seconds S]

scaled_dot_product_attention under FLASH_ATTENTION (the FlashAttention-2 kernels) and under CUDNN_ATTENTION, each on its
own: q, k, v [b,H,N,64] in bf16, contiguous, standard normal; forward, and forward with backward for a contiguous dO. Each
call stands between two CUDA events, after a write over the L2 cache; three sets of inputs take turns; the variants are timed
in turns. Medians of at least three calls. With gradients up to 131,072 tokens.

--ours: the JSON of `llsa bench attention --json`. Its shapes are measured, in its order, and its LLSA rows are put beside
them; without it, four usual shapes. --seconds: shapes that have not begun by then are left out, and named. So is a variant that
runs out of memory or takes too long.

Prints Markdown. Needs a GPU and PyTorch, and leaves clocks as they are. Exit code: 0; 1 if nothing could be measured.
"""

import argparse
import json
import math
import sys
import time

LONGEST_BACKWARD = 131072
LONGEST_CALL = 1.2  # seconds: longer calls are left out, and named; longest_call of apps/bench/attention_device.h
ROUNDS = 3
USUAL_SHAPES = [(1, 6, 65536, 64), (1, 6, 16384, 64), (1, 6, 131072, 64), (16, 6, 16384, 64)]


def summarize(seconds):
    """Quantiles by nearest rank."""
    ordered = sorted(seconds)

    def quantile(share):
        return ordered[max(1, math.ceil(share * len(ordered))) - 1]

    return {"median_ms": 1e3 * quantile(0.5), "p20_ms": 1e3 * quantile(0.2), "p80_ms": 1e3 * quantile(0.8),
            "calls": len(ordered)}


def flops(shape, backward):
    """Of full attention: 2 products forward, 5 more backward."""
    b, heads, tokens, d = shape
    return (7 if backward else 2) * 2.0 * b * heads * tokens * tokens * d


def our_rows(document):
    """Rows of LLSA in the JSON of `llsa bench attention`: those with pooling and selection."""
    return [row for row in document.values() if isinstance(row, dict) and row.get("variant") == "LLSA"]


def shapes_of(rows):
    """[(b, H, N, D)], each once, in order."""
    shapes = []
    for row in rows:
        shape = (row["batch"], row["heads"], row["tokens"], row["head_dim"])
        if shape not in shapes:
            shapes.append(shape)
    return shapes


def speed_ups(rows, torch_rows):
    """For each LLSA row and variant of the same shape: how many times the time of LLSA the variant takes."""
    pairs = []
    for row in rows:
        shape = [row["batch"], row["heads"], row["tokens"], row["head_dim"]]
        for other in torch_rows:
            if other["shape"] != shape:
                continue
            pair = {"shape": shape, "variant": other["variant"], "input": row["input"],
                    "llsa": f"B{row['block']} K{row['topk']} L{row['levels']}"}
            for name in ("forward", "both"):
                if name in row and name in other:
                    pair[name] = other[name]["median_ms"] / row[name]["median_ms"]
            pairs.append(pair)
    return pairs


def table_of_times(torch_rows):
    lines = ["| (b, H, N) | what | forward ms | p20, p80 | TFLOP/s | with backward ms | p20, p80 | TFLOP/s |",
             "|---|---|--:|---|--:|--:|---|--:|"]
    for row in torch_rows:
        line = f"| {tuple(row['shape'][:3])} | {row['variant']} |"
        for name, backward in (("forward", False), ("both", True)):
            if name in row:
                t = row[name]
                rate = flops(row["shape"], backward) / (1e-3 * t["median_ms"]) / 1e12
                line += f" {t['median_ms']:.3f} | {t['p20_ms']:.3f}, {t['p80_ms']:.3f} | {rate:.0f} |"
            else:
                line += " | | |"
        lines.append(line)
    return lines


def table_of_speed_ups(pairs):
    lines = ["| (b, H, N) | LLSA | input | against | forward | with backward |", "|---|---|---|---|--:|--:|"]
    for pair in pairs:
        cells = [f"x{pair[name]:.1f}" if name in pair else "" for name in ("forward", "both")]
        what = f"{tuple(pair['shape'][:3])} | {pair['llsa']} | {pair['input']} | {pair['variant']}"
        lines.append(f"| {what} | {cells[0]} | {cells[1]} |")
    return lines


class Bench:
    """Everything that needs PyTorch."""

    def __init__(self):
        import torch
        from torch.nn.attention import SDPBackend, sdpa_kernel

        self.torch = torch
        self.sdpa_kernel = sdpa_kernel
        self.variants = {"torch FLASH": SDPBackend.FLASH_ATTENTION, "torch cuDNN": SDPBackend.CUDNN_ATTENTION}
        self.flush = torch.empty(256 << 20, dtype=torch.uint8, device="cuda")

    def inputs(self, shape, seed):
        generator = self.torch.Generator(device="cuda").manual_seed(seed)
        q, k, v, d_o = (self.torch.randn(shape, generator=generator, device="cuda", dtype=self.torch.float32).bfloat16()
                        for _ in range(4))
        for x in (q, k, v):
            x.requires_grad_(True)
        return q, k, v, d_o

    def call(self, backend, inputs, backward):
        q, k, v, d_o = inputs
        with self.sdpa_kernel(backend):
            if not backward:
                with self.torch.no_grad():
                    return self.torch.nn.functional.scaled_dot_product_attention(q, k, v)
            o = self.torch.nn.functional.scaled_dot_product_attention(q, k, v)
            return self.torch.autograd.grad(o, (q, k, v), d_o)

    def check(self):
        """Both variants against f32 on 1024 tokens. Returns the reasons why variants cannot run; raises where one is wrong."""
        torch = self.torch
        q, k, v, d_o = self.inputs((1, 2, 1024, 64), 1)
        scores = (q.float() @ k.float().transpose(-1, -2)) / math.sqrt(64)
        exact = torch.softmax(scores, -1) @ v.float()
        exact_grads = torch.autograd.grad(exact, (q, k, v), d_o.float())
        refused = {}
        for name, backend in list(self.variants.items()):
            try:
                o = self.call(backend, (q, k, v, d_o), False)
                grads = self.call(backend, (q, k, v, d_o), True)
            except RuntimeError as error:
                refused[name] = str(error).splitlines()[0]
                del self.variants[name]
                continue
            for found, expected, most in [(o, exact, 5e-3), *((g, e, 1e-2) for g, e in zip(grads, exact_grads))]:
                error = ((found.float() - expected.float()).norm() / expected.float().norm()).item()
                if not error <= most:
                    raise SystemExit(f"error: {name} differs from f32 by {error}, at most {most} is allowed")
        return refused

    def time(self, calls, limit_seconds=1.0, wanted=30):
        """Seconds of the calls i -> anything, in turns: one list for each, or why a call is left out."""
        torch = self.torch

        def run(call, count, first):
            marks = []
            for i in range(count):
                begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                self.flush.fill_(i)
                self.flush.view(torch.int32).amax()  # read, so that nothing is left to be written back
                begin.record()
                call(first + i)
                end.record()
                marks.append((begin, end))
            torch.cuda.synchronize()
            return [1e-3 * begin.elapsed_time(end) for begin, end in marks]

        def run_if_it_fits(call, count, first):
            """The same; None, and the memory given back, where it does not suffice."""
            try:
                return run(call, count, first)
            except torch.cuda.OutOfMemoryError:
                pass  # the error holds what the call had computed: it goes first
            torch.cuda.empty_cache()
            return None

        counts, samples = [], []
        for call in calls:
            first = run_if_it_fits(call, 1, 0) and run_if_it_fits(call, 1, 1)
            if not first:
                counts.append(0)
                samples.append("out of memory")
            elif first[0] > LONGEST_CALL:
                counts.append(0)
                samples.append(f"a call takes more than {LONGEST_CALL} s")
            else:
                counts.append(max(1, min(math.ceil(wanted / ROUNDS), int(limit_seconds / (ROUNDS * first[0])))))
                samples.append([])
        for round_number in range(ROUNDS):
            for i, call in enumerate(calls):
                if counts[i]:
                    seconds = run_if_it_fits(call, counts[i], round_number * counts[i])
                    if seconds:
                        samples[i].extend(seconds)
                    else:
                        counts[i], samples[i] = 0, "out of memory"
        return samples

    def measure(self, shape, left_out):
        """Rows of one shape, one for each variant."""
        sets = [self.inputs(shape, seed) for seed in (1, 2, 3)]
        calls, names = [], []
        for name, backend in self.variants.items():
            for backward in (False, True):
                if backward and shape[2] > LONGEST_BACKWARD:
                    continue
                names.append((name, "both" if backward else "forward"))
                calls.append(lambda i, backend=backend, backward=backward: self.call(backend, sets[i % 3], backward))
        rows = {}
        for (name, passes), sample in zip(names, self.time(calls)):
            if isinstance(sample, str):
                left_out.append(f"{name}, {passes}, at {shape[:3]}: {sample}")
                continue
            rows.setdefault(name, {"variant": name, "shape": list(shape)})[passes] = summarize(sample)
        return list(rows.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ours", help="JSON of `llsa bench attention`")
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--seconds", type=float, default=0, help="0: all shapes")
    options = parser.parse_args()
    began = time.monotonic()
    rows = []
    if options.ours:
        with open(options.ours, encoding="utf-8") as file:
            rows = our_rows(json.load(file))
    shapes = shapes_of(rows) or USUAL_SHAPES

    bench = Bench()
    refused = bench.check()
    if not bench.variants:
        print(f"error: no kind of attention can run: {refused}", file=sys.stderr)
        return 1
    print(f"PyTorch {bench.torch.__version__}, cuDNN {bench.torch.backends.cudnn.version()}, "
          f"{bench.torch.cuda.get_device_name()}, bf16\n")
    torch_rows, left_out = [], [f"{name}: {why}" for name, why in refused.items()]
    for shape in shapes:
        if options.seconds and time.monotonic() - began > options.seconds:
            left_out.append(f"{shape[:3]}: the time was up")
            continue
        try:
            torch_rows += bench.measure(shape, left_out)
        except bench.torch.cuda.OutOfMemoryError:
            left_out.append(f"{shape[:3]}: out of memory")
        bench.torch.cuda.empty_cache()
    pairs = speed_ups(rows, torch_rows)
    print("\n".join(table_of_times(torch_rows)))
    if pairs:
        print("\nHow many times faster LLSA is, pooling and selection included:\n")
        print("\n".join(table_of_speed_ups(pairs)))
    if left_out:
        print("\nLeft out:\n\n" + "\n".join(f"* {what}" for what in left_out))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"torch": bench.torch.__version__, "cudnn": bench.torch.backends.cudnn.version(),
                       "gpu": bench.torch.cuda.get_device_name(), "rows": torch_rows, "speed_ups": pairs,
                       "left_out": left_out}, file, indent=2)
            file.write("\n")
    return 0 if torch_rows else 1


if __name__ == "__main__":
    sys.exit(main())

"""The network in NumPy, float64: one sum after another from the paper's formulas, with none of the package's code."""

import numpy as np

EPS = 1e-4


def unit(weight: np.ndarray) -> np.ndarray:
    """Rows of length 1."""
    rows = weight.reshape(len(weight), -1)
    lengths = np.array([np.sqrt(sum(number**2 for number in row)) for row in rows])
    return (rows / (lengths + EPS * np.sqrt(rows.shape[1]))[:, None]).reshape(weight.shape)


def silu(x: np.ndarray) -> np.ndarray:
    return x * (1 + np.tanh(x / 2)) / 2 / 0.596


def mixed(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    return (a + t * (b - a)) / np.sqrt(1 - 2 * t + 2 * t**2)


def joined(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A concatenation to which both contribute the same, whatever their widths."""
    total = a.shape[1] + b.shape[1]
    return np.concatenate([a * np.sqrt(total / 2 / a.shape[1]), b * np.sqrt(total / 2 / b.shape[1])], axis=1)


def normalized(x: np.ndarray, axis: int) -> np.ndarray:
    return x / (np.sqrt((x**2).mean(axis=axis, keepdims=True)) + EPS)


def convolved(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """A sum over shifted images."""
    reach = weight.shape[-1] // 2
    height, width = x.shape[2:]
    padded = np.pad(x, ((0, 0), (0, 0), (reach, reach), (reach, reach)))
    out = 0
    for row in range(weight.shape[2]):
        for column in range(weight.shape[3]):
            shifted = padded[:, :, row : row + height, column : column + width]
            out = out + np.einsum("nchw,dc->ndhw", shifted, unit(weight)[:, :, row, column])
    return out


def attended(x: np.ndarray, qkv: np.ndarray, out: np.ndarray, heads: int) -> np.ndarray:
    n, channels, height, width = x.shape
    size = channels // heads
    tokens = x.reshape(n, channels, -1)
    projected = np.einsum("dc,ncp->ndp", unit(qkv), tokens).reshape(n, 3, heads, size, -1)
    result = np.zeros((n, heads, size, height * width))
    for image in range(n):
        for head in range(heads):
            q, k, v = (normalized(projected[image, part, head], 0) for part in range(3))  # [size, positions]
            logits = np.exp(q.T @ k / np.sqrt(size))
            result[image, head] = v @ (logits / logits.sum(axis=1, keepdims=True)).T
    return np.einsum("dc,ncp->ndp", unit(out), result.reshape(n, channels, -1)).reshape(x.shape)


def block(x, embedding, weights, name, *, kind: str, resample: str | None, head_channels: int) -> np.ndarray:
    if resample == "down":
        x = (x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]) / 4
    if resample == "up":
        x = np.kron(x, np.ones((1, 1, 2, 2)))
    part = {key.removeprefix(f"{name}."): value for key, value in weights.items() if key.startswith(f"{name}.")}
    skip = convolved(x, part["skip.weight"]) if "skip.weight" in part else x
    if kind == "encoder":
        x = skip = normalized(skip, 1)
    y = convolved(silu(x), part["residual.conv_in.weight"])
    scale = 1 + part["residual.embedding_gain"] * (embedding @ unit(part["residual.embedding.weight"]).T)
    y = convolved(silu(y * scale[:, :, None, None]), part["residual.conv_out.weight"])
    x = mixed(skip, y, 0.3)
    if "attention.qkv.weight" in part:
        heads = x.shape[1] // head_channels
        x = mixed(x, attended(x, part["attention.qkv.weight"], part["attention.out.weight"], heads), 0.3)
    return np.clip(x, -256, 256)


def network(weights, x, c_noise, labels, *, num_levels: int, num_blocks: int, head_channels: int) -> np.ndarray:
    """F(x, c_noise, labels) for a state dict of float64 arrays."""
    features = np.sqrt(2) * np.cos(2 * np.pi * (np.outer(c_noise, weights["features.frequencies"])
                                                + weights["features.phases"]))  # fmt: skip
    embedding = features @ unit(weights["noise_embedding.weight"]).T
    if labels is not None:
        table = weights["class_embedding.weight"]
        one_hot = np.eye(table.shape[1])[labels] * np.sqrt(table.shape[1])
        embedding = mixed(embedding, one_hot @ unit(table).T, 0.5)
    embedding = silu(embedding)
    common = {"head_channels": head_channels}
    h = convolved(np.concatenate([x, np.ones_like(x[:, :1])], axis=1), weights["first.weight"])
    skips, number = [h], 0
    for level in range(num_levels):
        for index in range(num_blocks + (level > 0)):
            resample = "down" if level and index == 0 else None
            h = block(h, embedding, weights, f"encoder.{number}", kind="encoder", resample=resample, **common)
            skips.append(h)
            number += 1
    number = 0
    for level in reversed(range(num_levels)):
        entering = ["none", "none"] if level == num_levels - 1 else ["up"]
        for what in entering + ["skip"] * (num_blocks + 1):
            if what == "skip":
                h = joined(h, skips.pop())
            resample = "up" if what == "up" else None
            h = block(h, embedding, weights, f"decoder.{number}", kind="decoder", resample=resample, **common)
            number += 1
    assert not skips
    return convolved(h, weights["last.weight"]) * weights["output_gain"]

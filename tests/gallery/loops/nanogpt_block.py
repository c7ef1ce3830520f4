"""nanoGPT: the MLP of a transformer block, read along the difference of two tokens' logits."""

from functools import partial

import torch
import torch.nn.functional as F
from gallery import protocol
from torch import nn

margins = protocol.ahead
ABSENT = {"margin/empirical": "a block in a larger network has no labels of its own"}
losses = partial(F.cross_entropy, reduction="none")
VOCABULARY, CONTEXT, WIDTH = 5, 8, 16


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.c_attn = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.c_proj = nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, x):
        q, k, v = (t.unsqueeze(1) for t in self.c_attn(x).split(WIDTH, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.c_proj(y.squeeze(1))


class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.c_fc = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.gelu = nn.GELU()
        self.c_proj = nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x):
        return self.c_proj(self.gelu(self.c_fc(x)))


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.ln_1, self.attn = nn.LayerNorm(WIDTH), Attention()
        self.ln_2, self.mlp = nn.LayerNorm(WIDTH), MLP()
        self.ln_f = nn.LayerNorm(WIDTH)
        self.lm_head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.wte.weight = self.lm_head.weight

    def forward(self, idx, targets):
        x = self.wte(idx) + self.wpe(torch.arange(idx.shape[1]))
        x = x + self.attn(self.ln_1(x))
        x = x + self.mlp(self.ln_2(x))
        logits = self.lm_head(self.ln_f(x))
        loss = F.cross_entropy(logits.view(-1, VOCABULARY), targets.view(-1), ignore_index=-1)
        return logits, loss


class Readout(nn.Module):
    """The block alone, along a direction."""

    def __init__(self, mlp, direction):
        super().__init__()
        self.mlp, self.direction = mlp, nn.Parameter(direction)

    def forward(self, x):
        return self.mlp(x) @ self.direction


def train(seen):
    torch.manual_seed(0)
    model = GPT()
    decay = [p for p in model.parameters() if p.ndim >= 2]
    rest = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.95))
    text = torch.randint(VOCABULARY, (400,))
    text[1::2] = (text[::2] + 1) % VOCABULARY
    direction = (model.lm_head.weight[1] - model.lm_head.weight[0]).detach().clone()
    # >>> phasetrack
    import phasetrack

    geometry = phasetrack.ClusterGeometry(torch.eye(WIDTH)[:2], [0, 1])
    block = {"layers": ("mlp.c_fc", "mlp.c_proj"), "readout": direction}
    tracker = phasetrack.attach(model, optimizer, geometry=geometry, **block)
    # <<< phasetrack
    for _ in range(25):
        starts = torch.randint(len(text) - CONTEXT - 1, (8,))
        x = torch.stack([text[i : i + CONTEXT] for i in starts])
        y = torch.stack([text[i + 1 : i + 1 + CONTEXT] for i in starts])
        logits, loss = model(x, y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        rows = logits.view(-1, VOCABULARY)
        seen(Readout(model.mlp, direction), rows, y.view(-1), loss, torch.zeros(len(rows), WIDTH))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    # >>> phasetrack
    tracker.detach()
    # <<< phasetrack
    return locals()

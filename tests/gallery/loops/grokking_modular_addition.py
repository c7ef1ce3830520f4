"""Grokking of modular addition: an MLP on embeddings, full batch, AdamW with weight decay 1."""

from functools import partial

import torch
import torch.nn.functional as F
from gallery import protocol
from torch import nn

margins = protocol.ahead
losses = partial(F.cross_entropy, reduction="none")
P = 7


class Model(nn.Module):
    def __init__(self, p, d_model, d_mlp):
        super().__init__()
        self.embed = nn.Embedding(p, d_model)
        self.hidden = nn.Linear(2 * d_model, d_mlp)
        self.unembed = nn.Linear(d_mlp, p, bias=False)

    def features(self, pairs):
        return self.embed(pairs).flatten(1)

    def forward(self, pairs):
        return self.unembed(F.relu(self.hidden(self.features(pairs))))


def train(seen):
    torch.manual_seed(0)
    pairs = torch.cartesian_prod(torch.arange(P), torch.arange(P))
    labels = pairs.sum(dim=1) % P
    order = torch.randperm(len(pairs))
    train, test = order[:30], order[30:]
    model = Model(P, 8, 32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=1.0, betas=(0.9, 0.98))
    # >>> phasetrack
    import phasetrack

    geometry = phasetrack.ClusterGeometry.from_data(model.features(pairs[train]), labels[train])
    layers = ("hidden", "unembed")
    tracker = phasetrack.attach(model, optimizer, geometry=geometry, layers=layers)
    # <<< phasetrack
    for epoch in range(40):
        logits = model(pairs[train])
        loss = F.cross_entropy(logits, labels[train])
        optimizer.zero_grad()
        loss.backward()
        two_layers = nn.Sequential(model.hidden, nn.ReLU(), model.unembed)
        seen(two_layers, logits, labels[train], loss, model.features(pairs[train]))
        optimizer.step()
        if epoch % 10 == 0:
            with torch.inference_mode():
                test_loss = F.cross_entropy(model(pairs[test]), labels[test])
    # >>> phasetrack
    tracker.detach()
    # <<< phasetrack
    return locals()

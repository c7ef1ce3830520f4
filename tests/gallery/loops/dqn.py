"""DQN: replay memory, target network, smooth L1 loss of the chosen actions' values."""

import random
from collections import deque

import torch
from torch import nn

ABSENT = dict.fromkeys(
    ("error/train", "margin/empirical"),
    "the targets are not those of classes: they take more than two values per output",
)
STATES, ACTIONS = 4, 2


def losses(f, targets):
    return nn.functional.smooth_l1_loss(f, targets, reduction="none")


class DQN(nn.Module):
    def __init__(self, n_observations, n_actions):
        super().__init__()
        self.layer1 = nn.Linear(n_observations, 32)
        self.layer2 = nn.Linear(32, n_actions)

    def forward(self, x):
        return self.layer2(torch.relu(self.layer1(x)))


def environment(state, action):
    """A point that is pushed left or right; the reward is to be near 0."""
    push = 0.1 if action else -0.1
    following = torch.cat([state[1:], (state[-1:] + push).clamp(-1, 1)])
    return following, 1.0 - float(following[-1].abs())


def train(seen):
    torch.manual_seed(0)
    random.seed(0)
    policy_net, target_net = DQN(STATES, ACTIONS), DQN(STATES, ACTIONS)
    target_net.load_state_dict(policy_net.state_dict())
    optimizer = torch.optim.AdamW(policy_net.parameters(), lr=1e-2, amsgrad=True)
    memory, state = deque(maxlen=500), torch.zeros(STATES)
    criterion = nn.SmoothL1Loss()
    # >>> phasetrack
    import phasetrack

    geometry = phasetrack.ClusterGeometry(torch.eye(STATES)[:2], [0, 1])
    tracker = phasetrack.attach(policy_net, optimizer, loss=criterion, geometry=geometry)
    # <<< phasetrack
    for _ in range(60):
        if random.random() < 0.3:
            action = random.randrange(ACTIONS)
        else:
            with torch.no_grad():
                action = int(policy_net(state.unsqueeze(0)).argmax())
        following, reward = environment(state, action)
        memory.append((state, action, following, reward))
        state = following
        if len(memory) < 32:
            continue
        states, actions, next_states, rewards = zip(*random.sample(memory, 32), strict=True)
        state_batch, next_batch = torch.stack(states), torch.stack(next_states)
        action_batch = torch.tensor(actions).unsqueeze(1)
        state_action_values = policy_net(state_batch).gather(1, action_batch)
        with torch.no_grad():
            next_values = target_net(next_batch).max(1).values
        expected = torch.tensor(rewards) + 0.9 * next_values
        loss = criterion(state_action_values, expected.unsqueeze(1))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_value_(policy_net.parameters(), 100)
        seen(policy_net, state_action_values.squeeze(1), expected, loss, state_batch)
        optimizer.step()
        with torch.no_grad():
            for theirs, ours in zip(target_net.parameters(), policy_net.parameters(), strict=True):
                theirs.mul_(0.95).add_(ours, alpha=0.05)
    # >>> phasetrack
    tracker.detach()
    # <<< phasetrack
    return locals()

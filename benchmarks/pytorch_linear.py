"""The linear model of the paper as a PyTorch user would write it: the opponent."""

import itertools
import math
from collections.abc import Callable

import torch
from torch import nn

PRIOR_SCALE = 0.1
WIDTHS = (256, 512, 1024, 512, 256)


class LinearModel(nn.Module):
    """Encoder of table 3, a Laplacian thresholded by a fixed amount, and a dictionary."""

    def __init__(self, num_latents: int, threshold: float, num_samples: int, kl_weight: float):
        super().__init__()
        pairs = itertools.pairwise(WIDTHS)
        layers = [layer for pair in pairs for layer in (nn.Linear(*pair), nn.ReLU())]
        self.encoder = nn.Sequential(*layers)
        self.loc = nn.Linear(WIDTHS[-1], num_latents)
        self.log_scale = nn.Linear(WIDTHS[-1], num_latents)
        atoms = torch.randn(num_latents, WIDTHS[0])
        self.dictionary = nn.Parameter(atoms / atoms.norm(dim=1, keepdim=True))
        self.threshold, self.num_samples, self.kl_weight = threshold, num_samples, kl_weight

    def thresholded(self, loc: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """The shifted soft-threshold with the straight-through gradient (eq. 4)."""
        raw = loc + noise
        shrunk = torch.sign(noise) * torch.relu(noise.abs() - self.threshold)
        value = torch.where(noise.abs() > self.threshold, loc + shrunk, 0.0).detach()
        return value + (raw - raw.detach())

    def errors(self, batch: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Mean squared error of each code [J, B, K]."""
        reconstruction = torch.einsum("jbk,kd->jbd", codes, self.dictionary)
        return ((reconstruction - batch) ** 2).mean(dim=2)

    def heads(self, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Location and log scale of each latent."""
        features = self.encoder(batch)
        return self.loc(features), self.log_scale(features)

    def noise(self, log_scale: torch.Tensor) -> torch.Tensor:
        """Laplacian noise of J samples, by the inverse of its distribution function."""
        uniform = torch.rand(self.num_samples, *log_scale.shape, device=log_scale.device) - 0.5
        size = -torch.log((1 - 2 * uniform.abs()).clamp_min(1e-6))
        return torch.exp(log_scale) * torch.sign(uniform) * size

    def best_noise(
        self, batch: torch.Tensor, loc: torch.Tensor, log_scale: torch.Tensor
    ) -> torch.Tensor:
        """The noise of the sample with the least error, [1, B, K]; no gradient while choosing."""
        if self.num_samples == 1:
            return self.noise(log_scale)
        uniform_noise = self.noise(log_scale.detach())
        with torch.no_grad():
            best = self.errors(batch, self.thresholded(loc, uniform_noise)).argmin(dim=0)
            standard = uniform_noise[
                best, torch.arange(len(batch), device=batch.device)
            ] / torch.exp(log_scale)
        return (torch.exp(log_scale) * standard)[None]

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """The loss of encoder and dictionary, whose error counts D / 2 times as much."""
        loc, log_scale = self.heads(batch)
        codes = self.thresholded(loc, self.best_noise(batch, loc, log_scale))
        size, ratio = loc.abs(), torch.exp(log_scale) / PRIOR_SCALE
        divergence = size / PRIOR_SCALE + math.log(PRIOR_SCALE) - log_scale - 1
        divergence = divergence + ratio * torch.exp(-size * torch.exp(-log_scale))
        scaled = self.dictionary.detach()
        scaled = scaled + (batch.shape[1] / 2) * (self.dictionary - scaled)
        error = ((torch.einsum("jbk,kd->jbd", codes, scaled)[0] - batch) ** 2).mean(dim=1)
        frobenius = 1e-4 * (self.dictionary**2).sum()
        return (error + self.kl_weight * divergence.sum(dim=1)).mean() + frobenius

    @torch.no_grad()
    def encode(self, batch: torch.Tensor) -> torch.Tensor:
        """The best of J codes of each datum."""
        loc, log_scale = self.heads(batch)
        return self.thresholded(loc, self.best_noise(batch, loc, log_scale))[0]


def make_model(
    *, num_latents: int, num_samples: int, threshold: float = 0.25, kl_weight: float = 1e-2
) -> LinearModel:
    """The model with the paper's constants."""
    return LinearModel(num_latents, threshold, num_samples, kl_weight)


def make_step(
    data: torch.Tensor, batch_size: int, model: LinearModel, compiled: bool
) -> Callable[[], torch.Tensor]:
    """One training step: SGD with Nesterov's momentum for the encoder, plain for the dictionary.

    Args:
      data: [N, D], already on the device.
      batch_size: B.
      model: the model; it goes where the data are.
      compiled: whether `torch.compile` compiles loss and gradient.

    Returns:
      A call that makes a step and returns its loss, which the device may still be computing.
    """
    model.to(data.device)
    encoder = [p for name, p in model.named_parameters() if name != "dictionary"]
    optimizer = torch.optim.SGD(
        [
            {"params": encoder, "lr": 0.01, "momentum": 0.9, "nesterov": True},
            {"params": [model.dictionary], "lr": 0.05},
        ]
    )
    loss_of = torch.compile(model) if compiled else model

    def step() -> torch.Tensor:
        batch = data[torch.randint(len(data), (batch_size,), device=data.device)]
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(batch)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step

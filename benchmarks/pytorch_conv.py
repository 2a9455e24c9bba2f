"""The Fashion-MNIST model of SPEC section 5 as a PyTorch user would write it: the opponent."""

import math
from collections.abc import Callable

import torch
from torch import nn

PRIOR_VARIANCE = 0.1


def network(num_latents: int) -> tuple[nn.Module, nn.Module, nn.Module, nn.Module]:
    """Encoder, its two heads, and generator."""
    encoder = nn.Sequential(
        *_convolution(1, 64, 2, 1),
        *_convolution(64, 64, 2, 1),
        *_convolution(64, 128, 1, 0),
        *_convolution(128, 128, 2, 0),
        nn.Flatten(),
    )
    generator = nn.Sequential(
        nn.Linear(num_latents, 128),
        nn.ReLU(),
        nn.Unflatten(1, (128, 1, 1)),
        *_transposed(128, 128, 2, 0),
        *_transposed(128, 64, 1, 0),
        *_transposed(64, 64, 2, 1),
        nn.ConvTranspose2d(64, 1, 4, 2, 1),
        nn.Sigmoid(),
    )
    return encoder, nn.Linear(128, num_latents), nn.Linear(128, num_latents), generator


def make_step(
    images: torch.Tensor,
    *,
    num_latents: int,
    batch_size: int,
    num_samples: int,
    threshold: float,
    kl_weight: float = 1e-2,
    select: bool = True,
) -> Callable[[], float]:
    """One training step of Thresholded Gaussian, the best of J samples, Adam.

    Args:
      images: [N, 1, 28, 28] in [0, 1], already on the device.
      num_latents: K.
      batch_size: B.
      num_samples: J.
      threshold: lambda.
      kl_weight: beta.
      select: whether the J samples are scored without gradient first; else all are differentiated,
        as the published code does.
    """
    encoder, loc_head, log_variance_head, generator = network(num_latents)
    modules = nn.ModuleList([encoder, loc_head, log_variance_head, generator])
    modules.to(images.device).train()
    optimizer = torch.optim.Adam(
        modules.parameters(), lr=3e-4, betas=(0.5, 0.999), weight_decay=1e-5
    )

    def thresholded(loc: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        raw = loc + noise
        shrunk = torch.sign(noise) * torch.relu(noise.abs() - threshold)
        value = torch.where(noise.abs() > threshold, loc + shrunk, 0.0).detach()
        return raw + value - raw.detach()

    def errors_of(batch: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        pictures = generator(codes.flatten(0, 1)).view(len(codes), *batch.shape)
        return ((pictures - batch) ** 2).mean(dim=(2, 3, 4))

    def loss_of(batch: torch.Tensor) -> torch.Tensor:
        features = encoder(batch)
        loc, log_variance = loc_head(features), log_variance_head(features)
        deviation = torch.exp(log_variance / 2)
        noise = torch.randn(num_samples, *loc.shape, device=batch.device) * deviation
        if select and num_samples > 1:
            with torch.no_grad():
                best = errors_of(batch, thresholded(loc, noise)).argmin(dim=0)
            noise = noise[best, torch.arange(len(batch))][None]
        error = errors_of(batch, thresholded(loc, noise)).amin(dim=0)
        quadratic = (loc**2 + log_variance.exp()) / PRIOR_VARIANCE
        divergence = 0.5 * (math.log(PRIOR_VARIANCE) - log_variance - 1 + quadratic)
        return (error + kl_weight * divergence.sum(dim=1)).mean()

    def step() -> float:
        batch = images[torch.randint(len(images), (batch_size,), device=images.device)]
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(batch)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def _convolution(channels: int, features: int, stride: int, padding: int) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, features, 4, stride, padding)
    return [convolution, nn.BatchNorm2d(features), nn.ReLU()]


def _transposed(channels: int, features: int, stride: int, padding: int) -> list[nn.Module]:
    convolution = nn.ConvTranspose2d(channels, features, 4, stride, padding)
    return [convolution, nn.BatchNorm2d(features), nn.ReLU()]

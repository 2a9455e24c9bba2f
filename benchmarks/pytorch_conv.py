"""The conv models of the paper as a PyTorch user would write them: the opponent."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

PRIOR_VARIANCE = 0.1


class Architecture(NamedTuple):
    """An encoder and a generator: maps, stride and padding of each 4x4 convolution."""

    channels: int
    encoder: tuple[tuple[int, int, int], ...]
    start: tuple[int, int, int]
    generator: tuple[tuple[int, int, int], ...]


FASHION_MNIST = Architecture(
    channels=1,
    encoder=((64, 2, 1), (64, 2, 1), (128, 1, 0), (128, 2, 0)),
    start=(128, 1, 1),
    generator=((128, 2, 0), (64, 1, 0), (64, 2, 1)),
)
CELEBA = Architecture(
    channels=3,
    encoder=((64, 2, 1), (64, 2, 1), (128, 2, 1), (256, 2, 1), (256, 2, 0)),
    start=(256, 2, 2),
    generator=((128, 2, 1), (128, 2, 1), (64, 2, 1), (64, 2, 1)),
)


def network(
    architecture: Architecture, num_latents: int
) -> tuple[nn.Module, nn.Module, nn.Module, nn.Module]:
    """Encoder, its two heads, and generator."""
    channels, layers = architecture.channels, []
    for features, stride, padding in architecture.encoder:
        layers += _normalised(nn.Conv2d(channels, features, 4, stride, padding))
        channels = features
    encoder = nn.Sequential(*layers, nn.Flatten())
    heads = nn.Linear(channels, num_latents), nn.Linear(channels, num_latents)
    layers = [
        nn.Linear(num_latents, math.prod(architecture.start)),
        nn.ReLU(),
        nn.Unflatten(1, architecture.start),
    ]
    channels = architecture.start[0]
    for features, stride, padding in architecture.generator:
        layers += _normalised(nn.ConvTranspose2d(channels, features, 4, stride, padding))
        channels = features
    last = nn.ConvTranspose2d(channels, architecture.channels, 4, 2, 1)
    return encoder, *heads, nn.Sequential(*layers, last, nn.Sigmoid())


def make_step(
    images: torch.Tensor,
    *,
    num_latents: int,
    batch_size: int,
    num_samples: int,
    threshold: float,
    kl_weight: float = 1e-2,
    architecture: Architecture = FASHION_MNIST,
    select: bool = True,
    mirrored: bool = False,
    mixed: bool = False,
    compiled: bool = False,
) -> Callable[[], torch.Tensor]:
    """One training step of Thresholded Gaussian, the best of J samples, Adam.

    Args:
      images: [N, C, H, W] in [0, 1] or bytes, already on the device; channels last if the model is
        to be.
      num_latents: K.
      batch_size: B.
      num_samples: J.
      threshold: lambda.
      kl_weight: beta.
      architecture: of encoder and generator.
      select: whether the J samples are scored without gradient first; else all are differentiated,
        as the published code does.
      mirrored: whether each image is mirrored at random.
      mixed: whether PyTorch chooses where to compute in bfloat16 (autocast).
      compiled: whether the loss is compiled.

    Returns:
      A call that makes a step and returns its loss, which the device may still be computing. The
      drawn codes' scoring moves the running averages, too, which costs nothing worth telling.
    """
    encoder, loc_head, log_variance_head, generator = network(architecture, num_latents)
    modules = nn.ModuleList([encoder, loc_head, log_variance_head, generator])
    torch.backends.cudnn.benchmark = images.is_cuda
    channels_last = images.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    modules.to(images.device).to(memory_format=layout).train()  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.Adam(
        modules.parameters(),
        lr=3e-4,
        betas=(0.5, 0.999),
        weight_decay=1e-5,
        fused=images.is_cuda or None,
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
            noise = noise[best, torch.arange(len(batch), device=batch.device)][None]
        error = errors_of(batch, thresholded(loc, noise)).amin(dim=0)
        quadratic = (loc**2 + log_variance.exp()) / PRIOR_VARIANCE
        divergence = 0.5 * (math.log(PRIOR_VARIANCE) - log_variance - 1 + quadratic)
        return (error + kl_weight * divergence.sum(dim=1)).mean()

    def batch_of(places: torch.Tensor) -> torch.Tensor:
        batch = images[places]
        if mirrored:
            flipped = torch.rand(len(batch), 1, 1, 1, device=batch.device) < 0.5
            batch = torch.where(flipped, batch.flip(3), batch)
        return batch / 255 if batch.dtype == torch.uint8 else batch

    def loss_at(places: torch.Tensor) -> torch.Tensor:
        return loss_of(batch_of(places))

    evaluate = torch.compile(loss_at) if compiled else loss_at

    def step() -> torch.Tensor:
        places = torch.randint(len(images), (batch_size,), device=images.device)
        optimizer.zero_grad(set_to_none=True)
        # Weights cast while nothing is differentiated must not be used again where something is.
        with torch.autocast(images.device.type, torch.bfloat16, enabled=mixed, cache_enabled=False):
            loss = evaluate(places)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def _normalised(convolution: nn.Conv2d | nn.ConvTranspose2d) -> list[nn.Module]:
    return [convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU()]

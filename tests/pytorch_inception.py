"""Inception-v3 of the Frechet inception distance in PyTorch, to compare with; its names are jvsc's.

Written from the published architecture (Szegedy et al. 2016) and the way its 2015 weights pool.
"""

import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    def __init__(self, channels, features, kernel=1, stride=1, padding=0):
        super().__init__()
        self.conv = nn.Conv2d(channels, features, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(features, eps=0.001)

    def forward(self, x):
        return functional.relu(self.bn(self.conv(x)))


def average(x):
    return functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


class Mixed(nn.Module):
    """Branches, each a sequence of blocks by name; what pools comes last."""

    def __init__(self, channels, branches, pool=None):
        super().__init__()
        self.branches, self.pool = [], pool
        for branch in branches:
            names, width = [], channels
            for name, *shape in branch:
                if name.endswith("b") and name[-2].isdigit():  # beside the one before, not behind
                    self.add_module(name, Block(self.width_before, *shape))
                else:
                    self.width_before = width
                    self.add_module(name, Block(width, *shape))
                    width = shape[0]
                names.append(name)
            self.branches.append(names)

    def forward(self, x):
        outputs = []
        for names in self.branches:
            y = self.pool(x) if names[0] == "branch_pool" else x
            for index, name in enumerate(names):
                if name.endswith("b") and name[-2].isdigit():
                    continue
                following = names[index + 1] if index + 1 < len(names) else ""
                if following == f"{name[:-1]}b":
                    y = torch.cat([getattr(self, name)(y), getattr(self, following)(y)], 1)
                else:
                    y = getattr(self, name)(y)
            outputs.append(y)
        if "branch_pool" not in self._modules:
            outputs.append(functional.max_pool2d(x, 3, 2))
        return torch.cat(outputs, 1)


def mixed_a(channels, pool):
    return Mixed(
        channels,
        [
            [("branch1x1", 64)],
            [("branch5x5_1", 48), ("branch5x5_2", 64, 5, 1, 2)],
            [
                ("branch3x3dbl_1", 64),
                ("branch3x3dbl_2", 96, 3, 1, 1),
                ("branch3x3dbl_3", 96, 3, 1, 1),
            ],
            [("branch_pool", pool)],
        ],
        average,
    )


def mixed_c(c7):
    row, column = ((1, 7), 1, (0, 3)), ((7, 1), 1, (3, 0))
    return Mixed(
        768,
        [
            [("branch1x1", 192)],
            [("branch7x7_1", c7), ("branch7x7_2", c7, *row), ("branch7x7_3", 192, *column)],
            [
                ("branch7x7dbl_1", c7),
                ("branch7x7dbl_2", c7, *column),
                ("branch7x7dbl_3", c7, *row),
                ("branch7x7dbl_4", c7, *column),
                ("branch7x7dbl_5", 192, *row),
            ],
            [("branch_pool", 192)],
        ],
        average,
    )


def mixed_e(channels, pool):
    row, column = ((1, 3), 1, (0, 1)), ((3, 1), 1, (1, 0))
    return Mixed(
        channels,
        [
            [("branch1x1", 320)],
            [
                ("branch3x3_1", 384),
                ("branch3x3_2a", 384, *row),
                ("branch3x3_2b", 384, *column),
            ],
            [
                ("branch3x3dbl_1", 448),
                ("branch3x3dbl_2", 384, 3, 1, 1),
                ("branch3x3dbl_3a", 384, *row),
                ("branch3x3dbl_3b", 384, *column),
            ],
            [("branch_pool", 192)],
        ],
        pool,
    )


class Inception(nn.Module):
    def __init__(self):
        super().__init__()
        self.Conv2d_1a_3x3 = Block(3, 32, 3, 2)
        self.Conv2d_2a_3x3 = Block(32, 32, 3)
        self.Conv2d_2b_3x3 = Block(32, 64, 3, 1, 1)
        self.Conv2d_3b_1x1 = Block(64, 80)
        self.Conv2d_4a_3x3 = Block(80, 192, 3)
        self.Mixed_5b = mixed_a(192, 32)
        self.Mixed_5c = mixed_a(256, 64)
        self.Mixed_5d = mixed_a(288, 64)
        self.Mixed_6a = Mixed(
            288,
            [
                [("branch3x3", 384, 3, 2)],
                [
                    ("branch3x3dbl_1", 64),
                    ("branch3x3dbl_2", 96, 3, 1, 1),
                    ("branch3x3dbl_3", 96, 3, 2),
                ],
            ],
        )
        self.Mixed_6b = mixed_c(128)
        self.Mixed_6c = mixed_c(160)
        self.Mixed_6d = mixed_c(160)
        self.Mixed_6e = mixed_c(192)
        self.Mixed_7a = Mixed(
            768,
            [
                [("branch3x3_1", 192), ("branch3x3_2", 320, 3, 2)],
                [
                    ("branch7x7x3_1", 192),
                    ("branch7x7x3_2", 192, (1, 7), 1, (0, 3)),
                    ("branch7x7x3_3", 192, (7, 1), 1, (3, 0)),
                    ("branch7x7x3_4", 192, 3, 2),
                ],
            ],
        )
        self.Mixed_7b = mixed_e(1280, average)
        self.Mixed_7c = mixed_e(2048, lambda x: functional.max_pool2d(x, 3, 1, 1))
        self.fc = nn.Linear(2048, 1008)

    def forward(self, images):
        """Images [B, C, H, W] in [0, 1] to 2,048 features."""
        x = images.expand(-1, 3, -1, -1)
        x = 2 * functional.interpolate(x, size=(299, 299), mode="bilinear", align_corners=False) - 1
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(functional.max_pool2d(x, 3, 2)))
        x = functional.max_pool2d(x, 3, 2)
        for name in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"):
            x = getattr(self, f"Mixed_{name}")(x)
        return x.mean(dim=(2, 3))

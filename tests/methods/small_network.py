"""A network of a cortex's shape that trains in seconds, for tests of what does not depend on the ResNet."""

import torch
from torch import nn

WIDTH = 64


class SmallNetwork(nn.Module):
    """Two convolutions over colour scans of 8 px; what it has beside `forward` is as a cortex has it."""

    device = torch.device("cpu")

    def __init__(self, classes, width=16):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * width * 16, WIDTH),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(WIDTH, classes)

    def features(self, scans):
        return self.body(2 * scans - 1)

    def forward(self, scans):
        return self.classifier(self.features(scans))

    def widen(self, classes):
        old = self.classifier
        self.classifier = nn.Linear(WIDTH, classes)
        self.classifier.weight.data[: old.out_features] = old.weight.data
        self.classifier.bias.data[: old.out_features] = old.bias.data

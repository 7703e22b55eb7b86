"""The shared network: a ResNet-18 backbone and a classifier that grows."""

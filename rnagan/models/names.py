"""Names of what can be built, for settings: reading them imports no network."""

BACKBONES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")  # of torchvision
NORMS = ("batch", "group")

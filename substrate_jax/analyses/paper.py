"""All numbers of arXiv:2606.07882 that a page shows beside ours.

Its panels, domains and images are others than those of most runs: figures stand beside each other,
they do not test each other.
"""

SOURCE = "arXiv:2606.07882"

# Images per domain, and of Imagenette, on which it compares encoders.
IMAGES, IMAGENETTE = 1_000, 13_394

# Median PCKA, of eight domains and of four; the least of the 28 pairs (natural and astronomy), the
# share of them at 0.45 or above, and the domains of lowest (infrared) and highest mean (satellite).
PCKA_EIGHT, PCKA_FOUR = 0.604, 0.679
PCKA_LEAST = 0.405
PCKA_THRESHOLD, PCKA_SHARE = 0.45, 25 / 28
PCKA_LOWEST_MEAN, PCKA_HIGHEST_MEAN = 0.541, 0.706
# Median PCKA of the four domains by number of components.
SWEEP = {4: 0.31, 8: 0.49, 12: 0.62, 16: 0.679, 24: 0.683, 32: 0.681, 64: 0.642}
# Median of the second measures of bases, and their rank correlation with PCKA.
GRASSMANN = (0.659, 0.97)
PROCRUSTES = (0.341, 0.95)
# Median PCKA with its five encoders, and without each.
ALL_ENCODERS = 0.680
WITHOUT = {
    "resnet50": 0.647,
    "convnext_base": 0.701,
    "vit_base": 0.680,
    "efficientnet_b0": 0.650,
    "dinov2_base": 0.692,
}
# Median PCKA of its controls; of random bases the 95% tail of its seeds too.
PIXELS, HANDCRAFTED = 0.263, 0.31
RANDOM, RANDOM_HIGH, RANDOM_SEEDS = 0.041, 0.087, 50
# Magnitude of r: of component 0 with the image energy at least, of all others below.
ENERGY_OF_FIRST, OTHER_COMPONENTS = 0.6, 0.25
# Discriminative over MIM on Imagenette: calibrated CKA, and mutual kNN by k; and CKA over the
# images of all its domains.
RATIOS = {"cka": 7.4, 10: 4.82, 30: 5.12, 100: 5.30}
POOLED_RATIO = 1.22
# The first of them without the encoders of a family.
RATIO_WITHOUT = {"ResNets": 7.3, "ConvNeXts": 7.5, "ViTs": 6.9}
# Distillation: points that CKA to the substrate adds to labels alone for a ResNet-18 on CIFAR-100,
# by share of the labels.
DISTILL_GAINS = {0.01: 1.53, 0.1: 7.56, 0.5: 1.05, 1.0: 0.64}

# Linear CKA of a network's features with the fixed scores X B, while it is trained from scratch.
EMERGENCE = {
    "network": "ResNet-50 on Imagenette for 50 epochs",
    "start": 0.14,
    "peak": 0.58,
    "epoch": 5,
}

# Percent of OrganAMNIST by a ResNet-50 that was pretrained on substrates without labels and then
# fine-tuned, and by what it is compared with; its three other sets are within a point.
PRETRAINED = (97.3, 94.6)

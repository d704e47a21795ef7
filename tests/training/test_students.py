"""Students: their shapes, and what is refused."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from substrate_jax.encoders.weights import parameter_count
from substrate_jax.training.students import IMAGE_SIZE, STUDENTS, student_config

# Counted from the layers: ResNet-18 with a 3 x 3 stem and 100 classes is known to have 11.22 M.
PARAMETERS = {"resnet18": 11_220_132, "mini_resnet18": 713_076}


@pytest.mark.parametrize("name", STUDENTS)
def test_students_map_images_to_features_and_classes(name):
    config = student_config(name, 7)

    def logits(images):
        network = config.build(nnx.Rngs(0))
        features = network.features(images)
        return features, network.classify(features)

    images = jax.ShapeDtypeStruct((2, IMAGE_SIZE, IMAGE_SIZE, 3), jnp.float32)
    features, classes = jax.eval_shape(logits, images)
    assert features.shape == (2, config.width)
    assert classes.shape == (2, 7)
    if name in PARAMETERS:
        assert parameter_count(student_config(name, 100)) == PARAMETERS[name]


def test_unknown_students_are_refused():
    with pytest.raises(ValueError, match="student='resnet19': choose one of resnet18, "):
        student_config("resnet19", 10)

"""The config is a value: frozen, hashable, checked, and the published model by default."""

import dataclasses
from typing import Any

import pytest

from aura_jax import AuraConfig, ConfigError


def test_the_default_is_the_published_model():
    config = AuraConfig()
    assert (config.ch, config.ch_mult, config.num_res_blocks) == (256, (1, 2, 4, 4), 2)
    assert (config.z_channels, config.in_channels, config.out_channels) == (16, 3, 3)
    assert config.widths == (256, 512, 1024, 1024)
    assert config.downsampling == 8


def test_it_is_a_value():
    listed = AuraConfig(ch_mult=[1, 2, 4, 4])
    assert listed == AuraConfig()
    assert hash(listed) == hash(AuraConfig())
    assert AuraConfig.from_json(AuraConfig(ch=64).to_json()) == AuraConfig(ch=64)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(listed, "ch", 3)  # noqa: B010  an assignment that pyright refuses


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"ch": 48}, "width 48 is not a multiple of 32"),
        ({"ch": 32, "ch_mult": (1, 3)}, "last width 96 is not a multiple of 64"),
        ({"z_channels": 3}, "z_channels=3: the flips need at least 4 channels"),
        ({"num_res_blocks": 0}, "num_res_blocks=0: expected positive integers"),
        ({"ch": True}, "ch=True: expected positive integers"),
        ({"ch_mult": (1, -2)}, r"ch_mult=\(1, -2\): expected positive integers"),
        ({"num_res_blocks": 17}, "over 8 levels or 16 blocks a level"),
        ({"ch_mult": (1,) * 9}, "over 8 levels or 16 blocks a level"),
        ({"ch_mult": ()}, r"ch_mult=\(\): expected a tuple"),
    ],
)
def test_invalid_sizes_are_refused(fields: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        AuraConfig(**fields)

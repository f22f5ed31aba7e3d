"""Presets say what the papers' numbers are of; profiles how the tools compute them."""

import dataclasses

import pytest

from fv_jax.evaluation.protocols import PRESETS, Changes, Protocol, changed, preset_of, protocol


def test_bair_is_256_clips_with_100_fakes_each():
    rules = protocol("bair", "magvit")
    assert (rules.given_frames, rules.frames, rules.size, rules.repeats) == (1, 16, 64, 4)
    assert rules.trials(rules.real_count) == [100] * 256
    assert (rules.best_of, rules.ssim_colour, rules.lpips_net) == (100, "luma", "vgg16")


def test_the_common_tool_compares_one_fake_with_each_clip():
    rules = protocol("bair")
    assert rules.trials(256) == [1] * 256
    assert (rules.best_of, rules.ssim_colour, rules.lpips_net) == (1, "channels", "alexnet")


def test_debiased_differs_in_the_real_windows_alone():
    plain, debiased = protocol("bair", "magvit"), protocol("bair_debiased", "magvit")
    different = [k for k, v in vars(plain).items() if v != getattr(debiased, k)]
    assert different == ["name", "windows"]
    assert debiased.windows * debiased.real_count == 3840


@pytest.mark.parametrize(("name", "given"), [("flashvideo", 1), ("flashvideo_five", 5)])
def test_the_papers_own_protocol_is_160_px_from_the_first_frames(name, given):
    rules = protocol(name)
    assert (rules.name, rules.given_frames, rules.size, rules.repeats) == (name, given, 160, 3)
    assert preset_of("ucf101_interpolation") == "ucf101"  # it has to be asked for


def test_kinetics_gives_five_frames_and_cuts_six_real_clips_of_each_video():
    rules = protocol("kinetics600", "magvit")
    assert (rules.given_frames, rules.windows * rules.crops) == (5, 6)


def test_fewer_clips_have_as_many_fakes_each():
    assert protocol("bair", "magvit", real_count=3).trials(3) == [100] * 3
    assert protocol("bair", "magvit", real_count=3, fake_count=7, best_of=2).trials(3) == [3, 2, 2]


def test_every_setting_can_be_changed_and_what_is_not_given_stays():
    settings = {field.name for field in dataclasses.fields(Protocol)} - {"name", "profile"}
    flags = {field.name for field in dataclasses.fields(Changes)}
    assert flags - settings == {"count"}
    assert settings - flags == {"real_count"}
    assert changed(Changes()) == {}
    given = Changes(count=3, frames=0, given_in_fvd="no", given_in_frames="yes")
    assert changed(given) == {
        "real_count": 3, "frames": 0, "given_in_fvd": False, "given_in_frames": True
    }  # fmt: skip


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: protocol("bear"), ["bear", "bair_debiased"]),
        (lambda: protocol("bair", "other"), ["other", "magvit"]),
        (lambda: protocol("bair", given_frames=16), ["given_frames", "16"]),
        (lambda: protocol("bair", i3d_epsilon=float("nan")), ["i3d_epsilon", "nan"]),
        (lambda: protocol("bair", repeats=0), ["repeats", "0"]),
        (lambda: protocol("bair", metrics=("psnr", "fdv")), ["fdv", "fvd, shapes_fvd"]),
        (lambda: protocol("bair", metrics=()), ["none", "psnr"]),
        (lambda: Protocol(best_of=3).trials(2), ["best_of=3", "6", "2"]),
    ],
)
def test_what_cannot_be_is_refused(make, words):
    with pytest.raises(ValueError, match=words[0]) as error:
        make()
    for word in words:
        assert word in str(error.value)


def test_an_experiments_preset_is_found_by_its_name():
    assert preset_of("bair_tiny_interpolation") == "bair"
    assert preset_of("kinetics600_interpolation") == "kinetics600"
    assert preset_of("own_videos") == "plain"
    assert set(map(preset_of, PRESETS)) == set(PRESETS)

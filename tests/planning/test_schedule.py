"""Times of kernels, read from what a TPU's compiler writes."""

import os

import pytest

from fv_jax.planning import schedule

# As the compiler writes them (shortened).
BUNDLES = """= control target key start
LB: loop body
= control target key end

     0   :  { %s0 = smov [#allocation4] }
   0x1   :  { %s1 = smov 1 }
  0x19 LB: > { %s2 = sld [smem:[#allocation1]] }
iteration_bounds: (2, 52)
 0xfff PF: > { %v0 = vld [vmem:[%s0] sm:$0xff] }
0x1000   : > { %v1 = vadd.f32 %v0, %v0  ;;  %4 = vmatmul.bf16.gmra.mxu0 %v0 }
iteration_bounds: (2, 52)
0x1001   :  { %3 = vsyncpa [#allocation9], 1 }
"""
UNITS = """== CAPACTIY:
MXU, XLU, VALU
    4     3     4
== UTILIZATION:
4 0 2
0 0 2
"""


def write(folder, name, *, bundles=BUNDLES, stamp=1):
    (folder / f"{stamp}-{name}-71-schedule-analysis_final_bundles.txt").write_text("Schedule")
    (folder / f"{stamp}-{name}-72-final_bundles.txt").write_text(bundles)
    units = f"{stamp}-{name}-70-final_hlo-static-per-bundle-utilization.txt"
    (folder / units).write_text(UNITS)


def test_a_kernel_takes_its_turns_and_what_is_around_them(tmp_path):
    write(tmp_path, "retention.1")
    kernel = schedule.read_kernel(tmp_path, "retention.1")
    assert (kernel.turn, kernel.outside, kernel.turns) == (3, 3, 104)
    assert kernel.rows == 16 / 4
    assert kernel.cycles == 4 * 104 + 3  # the matrix units take longer than the bundles
    assert kernel.busy == {"MXU": 0.5, "XLU": 0, "VALU": 0.5}


def test_the_newest_of_a_name_counts(tmp_path):
    write(tmp_path, "retention.1")
    write(tmp_path, "retention.1", bundles=BUNDLES.replace("(2, 52)", "(7,)"), stamp=2)
    write(tmp_path, "retention.11", stamp=3)
    assert schedule.read_kernel(tmp_path, "retention.1").turns == 7


def test_a_kernel_that_is_called_again_has_the_schedule_of_the_first_call(tmp_path):
    write(tmp_path, "window.3")
    write(tmp_path, "windows.5", bundles=BUNDLES.replace("(2, 52)", "(7,)"), stamp=2)
    assert schedule.read_kernel(tmp_path, "window.4").turns == 104


def test_what_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no schedule of retention"):
        schedule.read_kernel(tmp_path, "retention.1")
    write(tmp_path, "retention.1", bundles=BUNDLES.replace("(2, 52)", "(3, 52)", 1))
    with pytest.raises(ValueError, match="not one loop"):
        schedule.read_kernel(tmp_path, "retention.1")


def test_flags_that_the_user_has_given_stay(tmp_path, monkeypatch):
    monkeypatch.setenv("LIBTPU_INIT_ARGS", "--mine=1")
    schedule.write_to(tmp_path)
    assert f"--xla_jf_dump_to={tmp_path} " in os.environ["LIBTPU_INIT_ARGS"]
    assert os.environ["LIBTPU_INIT_ARGS"].endswith("--mine=1")

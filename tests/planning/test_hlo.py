"""Collectives and times, read from a program's text."""

import pytest

from fv_jax.planning.hlo import V5E, Links, Module, Traffic

# A loop of three turns with a matmul and an all-gather beside it, then an all-reduce, as a TPU's
# compiler writes them (shortened).
TEXT = """HloModule jit_step, is_scheduled=true

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %add = f32[] add(%a, %b)
}

%body (p: (s32[], f32[8,128])) -> (s32[], f32[8,128]) {
  %p = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  %x = f32[8,128]{1,0:T(8,128)} get-tuple-element(%p), index=1
  %one = s32[]{:T(128)} constant(1)
  %next = s32[]{:T(128)} add(%i, %one), backend_config={"flag_configs":[]}
  %start = (f32[8,128], f32[32,128]) all-gather-start(%x), replica_groups=[1,4]<=[4]
  %dot = f32[8,128]{1,0} fusion(%x), calls=%work, backend_config={"estimated_cycles":"3000"}
  %done = f32[32,128]{1,0:T(8,128)} all-gather-done(%start)
  ROOT %tuple = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) tuple(%next, %dot)
}

%condition (p: (s32[], f32[8,128])) -> pred[] {
  %three = s32[]{:T(128)} constant(3)
  %q = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) parameter(0)
  %j = s32[]{:T(128)} get-tuple-element(%q), index=0
  ROOT %less = pred[]{:T(512)} compare(%j, %three), direction=LT
}

ENTRY %main (x: f32[8,128]) -> f32[8,128] {
  %x = f32[8,128]{1,0:T(8,128)} parameter(0)
  %zero = s32[]{:T(128)} constant(0)
  %init = (s32[], f32[8,128]) tuple(%zero, %x)
  %loop = (s32[], f32[8,128]) while(%init), condition=%condition, body=%body
  %y = f32[8,128]{1,0:T(8,128)} get-tuple-element(%loop), index=1
  ROOT %all = f32[8,128]{1,0:T(8,128)} all-reduce(%y), replica_groups={{0,1},{2,3}}, to_apply=%sum
}
"""
GATHERED, REDUCED = 3 * 8 * 128 * 4, 8 * 128 * 4


def test_collectives_are_counted_through_loops_by_what_a_device_receives():
    assert Module(TEXT).collectives() == {
        "all-gather": Traffic(count=3, bytes=3 * GATHERED),
        "all-reduce": Traffic(count=1, bytes=REDUCED),  # half of the ring, there and back
    }


def test_the_compilers_own_count_of_turns_is_taken_where_it_is_told():
    told = TEXT.replace("body=%body", 'body=%body, backend_config={"known_trip_count":{"n":"5"}}')
    assert Module(told).collectives()["all-gather"].count == 5
    twice = TEXT.replace("%one = s32[]{:T(128)} constant(1)", "%one = s32[]{:T(128)} constant(2)")
    assert Module(twice).collectives()["all-gather"].count == 2


@pytest.mark.parametrize("ring", [1e9, 12_288e3, 6_144e3])
def test_a_collective_takes_time_only_where_nothing_runs_beside_it(ring):
    times = Module(TEXT).times(Links(clock=1e6, ring=ring, link=1.0, memory=1.0), {}.__getitem__)
    work, gather, reduce = 3000 / 1e6, GATHERED / ring, REDUCED / ring
    assert times.total == pytest.approx(3 * max(work, gather) + reduce)
    assert times.waiting == pytest.approx(3 * max(gather - work, 0) + reduce)


@pytest.mark.parametrize(
    ("groups", "devices"),
    [
        ("replica_groups=[2,8]<=[16]", 8),
        ("replica_groups={{0,1,2,3},{4,5,6,7}}", 4),
        ("replica_groups=mesh['a'=2,'b'=4,'c'=2] {'a','c'}", 4),
        ("replica_groups=mesh['a'=2,'b'=4], device_ids=([2,4]T(1,0)) {'b'}", 4),
    ],
)
def test_groups_are_read_in_all_their_spellings(groups, devices):
    text = TEXT.replace("replica_groups=[1,4]<=[4]", groups)
    whole = 32 * 128 * 4
    got = Module(text).collectives()["all-gather"].bytes
    assert got == 3 * whole * (devices - 1) // devices


def test_a_v5e_reaches_its_peak_in_its_own_cycles():
    assert 4 * 128 * 128 * 2 * V5E.clock == pytest.approx(197e12, rel=0.01)


@pytest.mark.parametrize("cycles", [500, 5000])
def test_a_kernel_takes_the_time_of_its_cycles_or_of_its_bytes(cycles):
    kernel = """  %kernel.1 = (bf16[8,128]{1,0:T(8,128)S(1)}) custom-call(%x), \
custom_call_target="tpu_custom_call", operand_layout_constraints={f32[8,128]{1,0}}, metadata={}
"""
    text = TEXT.replace("  ROOT %tuple", kernel.replace("\\\n", "") + "  ROOT %tuple")
    module = Module(text)
    assert module.kernels() == {"kernel.1": 6 * 8 * 128}
    links = Links(clock=1e6, ring=1e12, link=1.0, memory=6 * 8 * 128 / 1e-3)
    added = module.times(links, {"kernel.1": cycles}.__getitem__).total
    added -= Module(TEXT).times(links, {}.__getitem__).total
    assert added == pytest.approx(3 * max(cycles / 1e6, 1e-3))


MOVED = """HloModule jit_decode, is_scheduled=true

%looked_up (table: f32[1000,128], ids: s32[8]) -> f32[8,128] {
  %table = f32[1000,128]{1,0:T(8,128)} parameter(0)
  %ids = s32[8]{0:T(128)} parameter(1)
  ROOT %found = f32[8,128]{1,0:T(8,128)} gather(%table, %ids), offset_dims={1}
}

%body (p: (f32[1000,128], f32[64,128], s32[8])) -> (f32[1000,128], f32[64,128], s32[8]) {
  %p = (f32[1000,128], f32[64,128], s32[8]) parameter(0)
  %table.1 = f32[1000,128]{1,0:T(8,128)} get-tuple-element(%p), index=0
  %buffer = f32[64,128]{1,0:T(8,128)} get-tuple-element(%p), index=1
  %ids.1 = s32[8]{0:T(128)S(1)} get-tuple-element(%p), index=2
  %i = s32[]{:T(128)} constant(3)
  %x = f32[8,128]{1,0:T(8,128)S(1)} fusion(%table.1, %ids.1), kind=kCustom, calls=%looked_up
  %start = (f32[64,128]{1,0:S(1)}, f32[64,128]{1,0:T(8,128)}, u32[]{:S(2)}) copy-start(%buffer)
  %done = f32[64,128]{1,0:T(8,128)S(1)} copy-done(%start)
  %y = f32[64,128]{1,0:T(8,128)} add(%done, %buffer)
  %put = f32[64,128]{1,0:T(8,128)} dynamic-update-slice(%buffer, %x, %i, %i)
  ROOT %next = (f32[1000,128], f32[64,128], s32[8]) tuple(%table.1, %put, %ids.1)
}

ENTRY %main (init: (f32[1000,128], f32[64,128], s32[8])) -> (f32[1000,128], f32[64,128], s32[8]) {
  %init = (f32[1000,128], f32[64,128], s32[8]) parameter(0)
  ROOT %loop = (f32[1000,128], f32[64,128], s32[8]) while(%init), condition=%body, body=%body
}
"""


def test_bytes_of_main_memory_are_those_that_instructions_must_touch():
    looked_up, copied, added = 8 * 512, 64 * 512, 2 * 64 * 512
    put = 8 * 512 + 2 * 4  # and where
    assert Module(MOVED).moved() == looked_up + copied + added + put

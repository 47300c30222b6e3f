"""Freed memory is kept where the C library can, and nothing else changes."""

from __future__ import annotations

import platform
import resource

import pytest
import torch

from skinkit.learning import memory


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="NO GLIBC: its malloc is what is told")
def test_a_large_block_is_not_fetched_anew() -> None:
    assert memory.keep_freed()
    torch.ones(8 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(8 << 20)
    # 32 MiB are 8192 pages; without it each of the twenty has all of them cleared again.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 20 * 8192 / 2


def test_elsewhere_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not memory.keep_freed.__wrapped__()

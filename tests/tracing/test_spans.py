from types import SimpleNamespace

from nvrerank_helpers.tracing.spans import tabulate_spans


def span(name, number, parent=None, starts=0, ends=10):
    return SimpleNamespace(
        name=f"{name}.call",
        context=SimpleNamespace(trace_id=1, span_id=number),
        parent=parent and SimpleNamespace(span_id=parent),
        attributes={},
        events=[],
        start_time=starts,
        end_time=ends,
    )


def test_steps_that_start_in_the_same_clock_tick_are_below_their_parents():
    ended = [span("Inner", 3, parent=2), span("Middle", 2, parent=1), span("Outer", 1)]
    assert tabulate_spans(ended).index.tolist() == ["Outer", "· Middle", "· · Inner"]


def test_steps_of_one_level_are_in_the_order_in_which_they_started():
    ended = [span("Later", 3, parent=1, starts=5), span("First", 2, parent=1, starts=2), span("Outer", 1)]
    assert tabulate_spans(ended).index.tolist() == ["Outer", "· First", "· Later"]

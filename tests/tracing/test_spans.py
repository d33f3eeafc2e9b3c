from types import SimpleNamespace

from nvrerank_helpers.tracing.spans import span_table


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


def test_steps_that_begin_in_one_tick_of_the_clock_stand_under_their_own():
    ended = [span("Inner", 3, parent=2), span("Middle", 2, parent=1), span("Outer", 1)]
    assert span_table(ended).index.tolist() == ["Outer", "· Middle", "· · Inner"]


def test_steps_of_one_level_stand_in_the_order_in_which_they_began():
    ended = [span("Later", 3, parent=1, starts=5), span("First", 2, parent=1, starts=2), span("Outer", 1)]
    assert span_table(ended).index.tolist() == ["Outer", "· First", "· Later"]

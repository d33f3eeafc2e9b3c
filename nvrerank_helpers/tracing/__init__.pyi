from .collect import Tracing as Tracing
from .spans import tabulate_spans as tabulate_spans
from .waterfall import draw_waterfall as draw_waterfall
